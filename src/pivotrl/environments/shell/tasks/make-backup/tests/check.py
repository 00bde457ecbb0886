from pathlib import Path

APP = Path("/app")
import tarfile

with tarfile.open(APP / "backup.tar.gz", "r:gz") as archive:
    found = {one.name: archive.extractfile(one).read() for one in archive if one.isfile()}
assert found == {"project/main.c": b"int main(void) { return 0; }\n", "project/doc/read me.txt": b"r\n"}
