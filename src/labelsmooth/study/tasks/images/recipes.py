"""Recipes by name: the image experiments of the papers, as far as these say how they were made.

What is nobody's but ours stands under "ours". Müller et al. 2019 is "When Does Label Smoothing Help?"; its
validation rows, like ours, are held out of the training set, and ours are a fifth of it.
"""

from __future__ import annotations

from labelsmooth.study.tasks.images.settings import Recipe

RECIPES: dict[str, Recipe] = {
    # Müller et al. 2019, §4 and A.5, after Hinton et al. 2015, §3: a teacher of two layers of 1200 with
    # dropout on images shifted by up to two pixels, and a student of two layers of 800 on images as they are,
    # β = 0.6, at a temperature so high that logits are matched; no decay, and a rate that falls in a line
    # over 100 epochs. Their gradient smoothing, 0.9 of the last one and 0.1 of this one at rate 1, is
    # momentum 0.9 at rate 0.1. Ours: a tenth of that rate, as standardised images have nine times the squared
    # length of those in [0, 1], and students of hard teachers break down at the rate itself; dropout for the
    # smoothed teacher too, the last layer's rate, which is a tenth there, batches, torch's initial weights,
    # lower temperatures beside theirs, and 5,000 of the images, which come with a package; for all of them
    # --data idx:DIR.
    "mnist-mlp": Recipe(
        data="mnist5k",
        model="mlp_dropout",
        eps=(0.0, 0.1),
        epochs=100,
        learning_rate=0.01,
        weight_decay=0.0,
        schedule="linear",
        shift=2,
        student="mlp800",
        temperatures=(1.0, 2.0, 4.0, 20.0),
        beta=0.6,
        plain_student=True,
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
    # Müller et al. 2019, §2 (ε = 0.1) and A.1: plain SGD on batches of 128 for 390,000 steps, rate 0.1 that
    # falls to a tenth every 130,000, decay 0.04 of the two hidden matrices, crops of 24 pixels, mirrors.
    # Their loss is three times the cross-entropy: the same as three times the rate and a third of the decay.
    # Left out: random brightness and contrast, standardising image by image, and averaging the weights.
    "cifar10-alexnet": Recipe(
        data="hf:uoft-cs/cifar10",
        model="alexnet",
        eps=(0.0, 0.1),
        epochs=1246,
        learning_rate=0.3,
        momentum=0.0,
        weight_decay=0.04 / 3,
        schedule="steps",
        drops=(1 / 3, 2 / 3),
        crop=24,
        flip=0.5,
    ),
    # Müller et al. 2019, figure 5: ResNet-56 teaches AlexNet, ε to 0.75, β = 1; trained as He et al. did.
    # Theirs has the temperatures for hard teachers only, and leaves that of the student at 1.
    "cifar10-distillation": Recipe(
        data="hf:uoft-cs/cifar10",
        model="resnet56",
        eps=(0.0, 0.15, 0.3, 0.45, 0.6, 0.75),
        epochs=205,
        schedule="steps",
        drops=(0.5, 0.75),
        shift=4,
        flip=0.5,
        student="alexnet",
        temperatures=(1.0, 2.0, 3.0, 4.0, 8.0, 12.0, 16.0),
        beta=1.0,
    ),
    # Müller et al. 2019, §2 and §3 (ε = 0.1, and 0.05 for its calibration) and A.2: the network of He et al.
    # 2016 with their batches, steps and drops, Nesterov's momentum, rate 0.1, decay 1e-4, gradients clipped
    # at norm 1. Their loss is three times the cross-entropy, which is the same as three times the rate and
    # thirds of decay and norm. There the decay is clipped too.
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
