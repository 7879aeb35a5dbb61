"""An example of each verb, in an order in which they can be called as one session.

The session of the test puts folders of its own in the place of DISKS and MOUNT, which a host with
this configuration allows, and the id of the last task in the place of TASK.
"""

from dataclasses import dataclass, field
from typing import Any

DISKS = "/srv/disks"
MOUNT = "/srv/leasehold"
TASK = "f3a1c0de-5d0f-4c0a-9b6e-2f7d1c9a8b41"
SD = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"
IMAGE = "66666666-7777-4888-8999-aaaaaaaaaaaa"
VOLUME = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"
JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
OTHER_JOB = "8d2f3b60-94d5-4f0b-a1f7-3a2f6f0c9e15"
MANAGED = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
MANAGED_SD = "bbbbbbbb-cccc-4ddd-8eee-ffffffffffff"
MANAGED_URL = f"nbd+unix:///vol?socket={DISKS}/volume.socket"
LOCAL_JOB = "2e0c6a51-7f1d-4a7e-9d55-31c8f6b0a9d4"
VM = "dddddddd-eeee-4fff-8000-111111111111"
HOST = "4c4c4544-0051-3510-8052-b4c04f4a4e31"

LEASE = {"sd_id": SD, "lease_id": JOB}
PENDING = {"type": "JOB", "job_id": JOB, "job_status": "PENDING", "generation": 0}
PLACE = {"sd_id": SD, "lease_id": JOB, "path": f"{MOUNT}/{SD}/dom_md/xleases", "offset": 3145728}
SOURCE = {"endpoint_type": "external", "url": f"{DISKS}/source.raw", "format": "raw"}
TARGET = {
    "endpoint_type": "external",
    "url": f"{DISKS}/target.raw",
    "format": "raw",
    "lease": LEASE,
    "generation": 0,
}
OTHER = {**PENDING, "job_id": OTHER_JOB}
CONNECTION = {"driver_volume_type": "file", "data": {"url": MANAGED_URL}}
ATTACHED = {
    "vol_id": MANAGED,
    "path": MANAGED_URL,
    "managed_path": None,
    "attachment": {"type": "url", "path": MANAGED_URL},
}
LOCAL_PATH = f"/dev/ovirt-local/{VOLUME}"
LOCAL = {"vol_id": VOLUME, "img_id": IMAGE, "backend": "lvmthin", "source": SOURCE, "vm_id": VM}
LOCAL_ROW = {
    "vol_id": VOLUME,
    "img_id": IMAGE,
    "vm_id": VM,
    "backend": "lvmthin",
    "state": "ready",
    "started": False,
    "size": 4194304,
    "active": True,
    "open": False,
    "path": LOCAL_PATH,
    "job_id": LOCAL_JOB,
    "job_status": "SUCCEEDED",
    "generation": None,
    "prepared": 1795238785,
    "data_percent": 25.0,
    "foreign": [],
}
VOLUME_IDS = {"volumeID": VOLUME, "imageID": IMAGE, "storagedomainID": SD}


@dataclass(frozen=True)
class Example:
    """params and result, as JSON has them."""

    params: dict[str, Any] = field(default_factory=dict)
    result: Any = True


STATUS = {
    "taskID": TASK,
    "taskState": "finished",
    "taskResult": "success",
    "code": 0,
    "message": "done",
    "result": {
        "uuid": VOLUME,
        "image": IMAGE,
        "domain": SD,
        "path": f"{MOUNT}/{SD}/images/{IMAGE}/{VOLUME}",
    },
}
STATE = {
    "id": JOB,
    "status": "done",
    "description": f"copy {DISKS}/source.raw to {DISKS}/target.raw",
    "job_type": "storage",
    "progress": 100,
    "bytes": 1048576,
    "total_bytes": 1048576,
    "created": 1795238785.24,
    "started": 1795238785.25,
    "ended": 1795238785.28,
}
FACTS = {
    **STATE,
    "virtual_size": 1048576,
    "seconds": 0.026,
    "rate": 40679697,
    "verified": False,
    "path_taken": "qemu-img, raw file to raw file, -t none -T none -W -m 8",
    "source": {
        **SOURCE,
        "lease": None,
        "generation": None,
        "sparse": False,
        "create": False,
        "is_zero": False,
    },
    "destination": {**TARGET, "sparse": False, "create": False, "is_zero": False},
    "flow_id": "flow-1",
}

EXAMPLES: dict[str, Example] = {
    "Host.ping2": Example(),
    "StorageDomain.create": Example(
        {"storagedomainID": SD, "path": MOUNT, "leases": 100}, {"id": SD}
    ),
    "StorageDomain.activate": Example({"storagedomainID": SD, "path": MOUNT}),
    "Host.getCapabilities": Example(
        {},
        {
            "uuid": HOST,
            "name": "host1",
            "version": "0.1.0",
            "stores": ["embedded"],
            "domains": {SD: {"host_id": None, "state": "alone"}},
            "connector_info": {
                "host": "host1",
                "ip": "10.0.0.1",
                "initiator": f"iqn.2008-11.org.linux-kvm:{HOST}",
                "multipath": False,
                "do_local_attach": False,
                "platform": "x86_64",
                "os_type": "linux",
                "uuid": HOST,
            },
            "drivers": ["rbd", "iscsi", "local", "file"],
            "endpoints": {
                "schemes": ["path", "nbd+unix", "nbd", "iscsi", "rbd"],
                "directories": [DISKS],
                "devices": ["/dev/mapper"],
            },
            "limits": {"concurrency": 2, "rate": None, "autodelete": 3600.0},
            "local_disk": {"backends": ["lvm", "lvmthin"], "volume_group": "ovirt-local"},
            "drained": False,
        },
    ),
    "StorageDomain.getInfo": Example(
        {"storagedomainID": SD},
        {
            "uuid": SD,
            "name": "leasehold",
            "type": "LOCALFS",
            "class": "Data",
            "role": "Regular",
            "pool": [],
            "version": 5,
            "block_size": 512,
            "alignment": 1048576,
            "lver": -1,
            "spm_id": -1,
            "master_ver": 0,
            "path": f"{MOUNT}/{SD}",
            "store": "embedded",
        },
    ),
    "StorageDomain.getStats": Example(
        {"storagedomainID": SD},
        {
            "disktotal": 270553174016,
            "diskfree": 81767477248,
            "mdasize": 0,
            "mdafree": 0,
            "mdavalid": True,
            "mdathreshold": True,
        },
    ),
    "Volume.create": Example({**VOLUME_IDS, "size": "1048576", "volFormat": "RAW"}, TASK),
    "Task.getStatus": Example({"taskID": TASK}, STATUS),
    "Task.getInfo": Example({"taskID": TASK}, {"id": TASK, "verb": "Volume.create"}),
    "Host.getAllTasksStatuses": Example({}, {TASK: STATUS}),
    "Task.clear": Example({"taskID": TASK}),
    "Volume.getInfo": Example(
        VOLUME_IDS,
        {
            "uuid": VOLUME,
            "domain": SD,
            "image": IMAGE,
            "pool": "",
            "parent": "00000000-0000-0000-0000-000000000000",
            "children": [],
            "capacity": 1048576,
            "apparentsize": 1048576,
            "truesize": 0,
            "format": "RAW",
            "allocType": "SPARSE",
            "type": "SPARSE",
            "voltype": "LEAF",
            "disktype": "DATA",
            "description": "",
            "legality": "LEGAL",
            "status": "OK",
            "generation": 0,
            "sequence": 1,
            "ctime": 1795238785,
            "mtime": 0,
            "path": f"{MOUNT}/{SD}/images/{IMAGE}/{VOLUME}",
            "lease": {
                "path": f"{MOUNT}/{SD}/images/{IMAGE}/{VOLUME}.lease",
                "offset": 0,
                "owners": [],
            },
        },
    ),
    "SDM.update_volume": Example(
        {
            "job_id": OTHER_JOB,
            "vol_info": {"sd_id": SD, "img_id": IMAGE, "vol_id": VOLUME, "generation": 0},
            "vol_attr": {"legality": "ILLEGAL"},
        }
    ),
    "ManagedVolume.attach_volume": Example(
        {"vol_id": MANAGED, "sd_id": MANAGED_SD, "connection_info": CONNECTION}, ATTACHED
    ),
    "ManagedVolume.volumes_info": Example(
        {"vol_ids": [MANAGED]},
        [{**ATTACHED, "sd_id": MANAGED_SD, "connection_info": CONNECTION, "exists": True}],
    ),
    "ManagedVolume.detach_volume": Example({"vol_id": MANAGED}),
    "Lease.create": Example({"lease": LEASE, "metadata": PENDING}, TASK),
    "Lease.info": Example({"lease": LEASE}, PLACE),
    "Lease.status": Example(
        {"lease": LEASE},
        {
            "owners": [],
            "version": 0,
            "metadata": {
                "type": "JOB",
                "generation": 0,
                "job_id": JOB,
                "job_status": "PENDING",
                "created": 1795238785,
                "modified": 1795238785,
                "host_hardware_id": HOST,
            },
        },
    ),
    "SDM.copy_data": Example({"job_id": JOB, "source": SOURCE, "destination": TARGET}),
    "Host.getJobs": Example({"job_type": "storage", "job_ids": [JOB]}, {JOB: STATE}),
    "Host.get_jobs": Example({"job_ids": [JOB]}, {JOB: STATE}),
    "Job.info": Example({"job_id": JOB}, FACTS),
    "Job.list": Example({"statuses": ["done"], "job_ids": [JOB]}, {"jobs": [FACTS], "next": None}),
    "Job.delete": Example({"job_id": JOB}),
    "LocalDisk.prepare": Example(
        LOCAL,
        {
            "vol_id": VOLUME,
            "state": "filling",
            "path": LOCAL_PATH,
            "job_id": LOCAL_JOB,
            "changed": False,
            "reused": False,
        },
    ),
    "LocalDisk.list": Example({}, [LOCAL_ROW]),
    "LocalDisk.gc": Example(
        {"dry_run": True, "vms": ["eeeeeeee-eeee-4fff-8000-111111111111"]},
        [
            {
                "vol_id": VOLUME,
                "vm_id": VM,
                "reason": f"VM {VM} does not exist",
                "removed": False,
                "failed": None,
            }
        ],
    ),
    "LocalDisk.remove": Example({"vol_id": VOLUME}, [VOLUME]),
    "Host.drain": Example({"timeout": 60}),
    "Job.abort": Example({"job_id": OTHER_JOB}),
    "Host.resume": Example(),
    "Lease.fence": Example({"lease": {**LEASE, "lease_id": OTHER_JOB}, "metadata": OTHER}),
    "Lease.rebuild_leases": Example({"sd_id": SD}, TASK),
    "Lease.delete": Example({"lease": LEASE}, TASK),
    "Image.delete": Example(
        {"storagedomainID": SD, "imageID": VOLUME_IDS["imageID"], "force": True}, TASK
    ),
    "StorageDomain.deactivate": Example({"storagedomainID": SD}),
}
