"""Digits with few numbers."""

# %%
# # Digits with few numbers
#
# The [network of MNIST](../mnist.md) on scikit-learn's 1,797 digits of 8 x 8 pixels, which come with scikit-learn: a
# frozen lift, one stage of six Euler steps on a sphere, channel means times one number.
import torch

import cde_nets as cn
from cde_nets.data.digits import load_digits
from cde_nets.plot import confusion

data = load_digits()
config = cn.ImageNetworkConfig(size=8, intervals=(6,), count=50, normalization="none")
network = config.build()
trained = sum(p.numel() for p in network.parameters())
print(f"{trained} trained numbers, {len(data.train.images)} training images from {data.source}")


# %%
# A loop of one's own, in batches of 100. `cn.Trainer` has more: checkpoints, moves of the images, the choice of the
# epoch on validation images.
def prepared(part):
    return torch.from_numpy(part.images).float() / 255, torch.from_numpy(part.labels).long()


images, labels = prepared(data.train)
controls, scale = list(network.parameters())[:-1], network.readout_parameters()
optimizer = torch.optim.Adam([{"params": controls}, {"params": scale}])
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.03, 0.3], total_steps=40 * 12)
generator = torch.Generator().manual_seed(0)
for _ in range(40):
    for batch in torch.randperm(len(images), generator=generator).split(100):
        loss = torch.nn.functional.cross_entropy(network(images[batch]), labels[batch])
        optimizer.zero_grad(), loss.backward(), optimizer.step(), schedule.step()

# %%
# The last 397 digits, by other hands than the training digits, are looked at once:
test, truth = prepared(data.test)
with torch.no_grad():
    guessed = network(test).argmax(1)
print(f"above 75 % with {trained} numbers: {(guessed == truth).float().mean().item() > 0.75}")

# %%
# Which digits are taken for which:
counts = torch.zeros(10, 10, dtype=torch.int64)
counts.index_put_((truth, guessed), torch.ones(len(truth), dtype=torch.int64), accumulate=True)
confusion(counts.numpy()).figure.savefig("digits.png", dpi=90, bbox_inches="tight")

# %%
# ![Confusion matrix of 397 test digits](digits.png)
#
# Real MNIST is `make mnist`; networks that come with the package are loaded by name (`cn.pretrained_networks()`).
