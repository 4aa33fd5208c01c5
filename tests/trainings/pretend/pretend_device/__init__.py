"""A pretend accelerator, `pretend:0` and `pretend:1`, in pure Python: for tests of processes alone.

PyTorch loads it at `import torch`, in a process whose `PYTHONPATH` holds the folder above: an entry
point of the group `torch.backends` lies beside this package. It is installed nowhere.

Its memory is CPU memory that only the device may read. Kernels are queued, to one thread a device,
and are done at `synchronize`, `.cpu()` or `.item()`, so that whoever forgets to wait measures the
launch, or reads nothing new. Its kernels are those of the CPU, so its bits are the CPU's.

Environment variables, read once:

- `PRETEND_DEVICES`: how many devices there are; 2.
- `PRETEND_LAG_US`: so many microseconds more for each kernel; 0.
- `PRETEND_GRAPHS`: set, the devices have graphs like CUDA's.
- `PRETEND_NAMES`: the models of the devices, comma-separated; each is a `Pretend 1` by default.
- `PRETEND_SHORT_GOLDEN`: set, the golden check of the universal training ends after some epochs.
- `PRETEND_FAULT`: faults to inject, comma-separated; `faults` names them.
- `PRETEND_TRACE`: a file of lines of `xorbench` to look out for; `lines` says more.
"""
