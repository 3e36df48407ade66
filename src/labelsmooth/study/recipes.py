"""Recipes by name: the image experiments of the papers, as far as these say how they were made.

What is nobody's but ours stands under "ours". Müller et al. 2019 is "When Does Label Smoothing Help?"; its
validation rows, like ours, are held out of the training set, and ours are a fifth of it.
"""

from __future__ import annotations

from labelsmooth.study.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    # Müller et al. 2019, §4, and Hinton et al. 2015, §3: the teacher on MNIST, two layers of 1200 with
    # dropout, on images shifted by up to two pixels; the student is --model mlp800. Ours: epochs, learning
    # rate, and 5,000 of the images, which come with a package; for all of them --data idx:DIR.
    "mnist-mlp": Recipe(
        data="mnist5k", model="mlp_dropout", eps=(0.0, 0.1), epochs=60, learning_rate=0.03, shift=2
    ),
    # He et al. 2016, §4.2, for CIFAR: batches of 128, rate 0.1 that falls at 32,000 and 48,000 of 64,000
    # steps, momentum 0.9, decay 1e-4, crops from 4 pixels of padding, mirrors. Ours: the images.
    "fashion-resnet56": Recipe(
        data="hf:zalando-datasets/fashion_mnist",
        model="resnet56",
        eps=(0.0, 0.05, 0.1),
        epochs=171,
        schedule="steps",
        drops=(0.5, 0.75),
        shift=4,
        flip=0.5,
    ),
    # Müller et al. 2019, §2 (ε = 0.1), whose network is that of TensorFlow's CIFAR-10 tutorial; the training
    # is the tutorial's: plain SGD on batches of 128, rate 0.1 that falls every 350 epochs, decay 0.004 of the
    # two hidden matrices, crops of 24 pixels, mirrors. Ours: to end where it would fall a third time. Left
    # out: its random brightness and contrast, standardising image by image, and averaging the weights.
    "cifar10-alexnet": Recipe(
        data="hf:uoft-cs/cifar10",
        model="alexnet",
        eps=(0.0, 0.1),
        epochs=1050,
        momentum=0.0,
        weight_decay=0.004,
        schedule="steps",
        drops=(1 / 3, 2 / 3),
        crop=24,
        flip=0.5,
    ),
    # Müller et al. 2019, §2 and §3 (ε = 0.1, and 0.05 for its calibration), with the network and the training
    # of He et al. 2016 as above.
    "cifar100-resnet56": Recipe(
        data="hf:uoft-cs/cifar100:fine_label",
        model="resnet56",
        eps=(0.0, 0.05, 0.1),
        epochs=205,
        schedule="steps",
        drops=(0.5, 0.75),
        shift=4,
        flip=0.5,
    ),
    # Müller et al. 2019, §2 and §3 (ε = 0.1), with momentum, decay and batches of its appendix A.4. Ours: an
    # existing checkpoint's features as examples/checkpoint_features.py writes them, of which the last layer
    # alone is trained anew; epochs, learning rate. Left out: averaging the weights.
    "imagenet-inception": Recipe(
        data="npz:imagenet-features.npz",
        model="linear",
        eps=(0.0, 0.1),
        epochs=20,
        batch_size=4096,
        learning_rate=0.1,
        weight_decay=8e-5,
        optimizer="nesterov",
    ),
}
