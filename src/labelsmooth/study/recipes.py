"""Recipes by name: the image experiments of the papers, as far as these say how they were made.

What is nobody's but ours stands under "ours". Müller et al. 2019 is "When Does Label Smoothing Help?"; its
validation rows, like ours, are held out of the training set, and ours are a fifth of it.
"""

from __future__ import annotations

from labelsmooth.study.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    # Müller et al. 2019, §4 and A.5: the teacher on MNIST, two layers of 1200 with dropout, on images shifted
    # by up to two pixels, without decay, at a rate that falls in a line over 100 epochs. Its gradient
    # smoothing, 0.9 of the last one and 0.1 of this one at rate 1, is momentum 0.9 at rate 0.1. Ours: dropout
    # for the smoothed teacher too; the last layer's rate, which is a tenth there; batches; torch's initial
    # weights; and 5,000 of the images, which come with a package; for all of them --data idx:DIR. The student
    # is --student mlp800 --beta 0.6, which learns from images that are not shifted there.
    "mnist-mlp": Recipe(
        data="mnist5k",
        model="mlp_dropout",
        eps=(0.0, 0.1),
        epochs=100,
        learning_rate=0.1,
        weight_decay=0.0,
        schedule="linear",
        shift=2,
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
    # Müller et al. 2019, §2 (ε = 0.1) and A.1, whose network is that of TensorFlow's CIFAR-10 tutorial: plain
    # SGD on batches of 128, rate 0.1 that falls at 130,000 and 260,000 of 390,000 steps, decay 0.04 of the
    # two hidden matrices, the cross-entropy times 3, which is the same as three times the rate and a third of
    # the decay; crops of 24 pixels, mirrors. Left out: the tutorial's random brightness and contrast, and
    # standardising image by image.
    "cifar10-alexnet": Recipe(
        data="hf:uoft-cs/cifar10",
        model="alexnet",
        eps=(0.0, 0.1),
        epochs=1246,
        learning_rate=3 * 0.1,
        momentum=0.0,
        weight_decay=0.04 / 3,
        schedule="steps",
        drops=(1 / 3, 2 / 3),
        crop=24,
        flip=0.5,
    ),
    # Müller et al. 2019, §2 and §3 (ε = 0.1, and 0.05 for its calibration) and A.2: the network of He et al.
    # 2016 with their batches, steps and rates, Nesterov's momentum, decay 1e-4, gradients clipped at norm 1,
    # the cross-entropy times 3, which is the same as three times the rate and thirds of decay and norm.
    # There the decay is clipped too.
    "cifar100-resnet56": Recipe(
        data="hf:uoft-cs/cifar100:fine_label",
        model="resnet56",
        eps=(0.0, 0.05, 0.1),
        epochs=205,
        learning_rate=3 * 0.1,
        weight_decay=1e-4 / 3,
        optimizer="nesterov",
        clip=1 / 3,
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
