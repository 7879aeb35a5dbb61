"""Tests on real LVM, real thin pools, several hosts and a real watchdog: in a small QEMU guest.

`tests/guest/inside` holds tests that run in the guest only; pytest on this machine does not collect
them. `tests/guest/test_local_disk.py` boots one guest for all that `scenarios.txt` lists, and tells
of each that has failed; one that is listed and did not run has failed.

Run some of them, in one boot, and see what they print:

    .venv/bin/python -m tests.guest                      # all but the long ones
    .venv/bin/python -m tests.guest --full               # the long ones, too
    .venv/bin/python -m tests.guest test_lvm.py -k tags  # as pytest takes it; paths in inside/

After adding, renaming or removing one, `.venv/bin/python -m tests.guest --list` writes the list.

The guest is Debian with its own kernel, 2 processors and 1 GiB; `scripts/guest` makes it on first
use. A test inside is root and has

- this checkout and its .venv, at the same paths as here;
- empty disks: /dev/guest/data (16 GiB, for the volume group) and /dev/guest/spare (4 GiB), with
  fixtures in inside/conftest.py. They are sparse files of this machine: write little;
- LVM without udev. LVM_SYSTEM_DIR is set; an lvm command that is started without it may hang,
  unless the module starts udev, as inside/rootless.py does;
- sanlock, wdmd, nbdkit, qemu-img, sudo: the packages are listed in `scripts/guest`;
- /tmp and /run in memory, 512 MiB each. Everything is gone with the guest.

Everything is about ten times slower there: an lvm command takes 0.3 s.
"""
