"""Names that symlinks give to files whose own names say nothing, such as the blobs of a Hugging Face cache."""

import os


class Aliases:
    """The symlinks in the folder `root` and what they lead to in it; without a root none. One caller at a time.

    They are looked for when the first is asked for.
    """

    def __init__(self, root: str | None = None):
        self._root = None if root is None else os.path.realpath(root)
        self._links: dict[str, list[str]] | None = None

    def forget(self) -> None:
        """Has the links looked for again."""
        self._links = None

    def of(self, path: str) -> list[str]:
        """Paths of the symlinks that lead to the file at `path`, which need not be there any more."""
        if self._root is None:
            return []
        if self._links is None:
            self._links = _find(self._root)
        return self._links.get(os.path.realpath(path), []) if self._links else []

    def target(self, link: str) -> str | None:
        """Path of what a symlink leads to, which need not be there any more; None where that is not in the root."""
        if self._root is None:
            return None
        target = os.path.realpath(link)
        return target if target.startswith(os.path.join(self._root, "")) else None


def _find(root: str) -> dict[str, list[str]]:
    """{what they lead to: symlinks} in the folder, by name."""
    links: dict[str, list[str]] = {}
    folders = [root]
    while folders:
        try:
            with os.scandir(folders.pop()) as scan:
                for entry in scan:
                    if entry.is_symlink():
                        links.setdefault(os.path.realpath(entry.path), []).append(entry.path)
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError:
            continue  # whoever compresses it is told
    return {target: sorted(found) for target, found in links.items()}
