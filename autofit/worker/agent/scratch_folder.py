"""What a node's part of a probe of a script has in the file system: its scratch folder, and DeepSpeed's shared memory.

The folder's path is the same on every node, and it may be one folder that they share: the last to go clears it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from autofit.probing.protocol import ScriptSpec, Share
from autofit.process.files import write_whole
from autofit.process.rendezvous import remove_shared_memory
from autofit.worker.script.isolation.isolation import TEMPORARY


class ScratchFolder:
    def __init__(self, spec: ScriptSpec, share: Share) -> None:
        self._spec = spec
        self._share = share
        self._scratch = Path(spec.scratch_path)
        self.reports = self._scratch / f"node{share.node_index}"

    def lay_out(self) -> None:
        """Makes the folders, writes the spec's files; OSError where that fails, ValueError for a name with a path."""
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)  # on another node than the asker's it is new
        self.reports.mkdir(exist_ok=True)
        Path(self._spec.log_path).parent.mkdir(parents=True, exist_ok=True)
        for name, text in self._spec.files:
            if Path(name).name != name or name in (".", ".."):
                raise ValueError(f"{name!r} is no name of a file in the scratch folder")
            write_whole(self._scratch / name, text)  # another node may read the same folder

    def clear(self) -> None:
        for named in self.reports.glob(f"{TEMPORARY}*"):
            shutil.rmtree(named.read_text(), ignore_errors=True)
        shutil.rmtree(self.reports, ignore_errors=True)
        if not any(self._scratch.glob("node[0-9]*")):
            shutil.rmtree(self._scratch, ignore_errors=True)
        remove_shared_memory(str(self._share.master_port), self._share.master_address)
