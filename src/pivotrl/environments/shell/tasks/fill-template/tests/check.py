from pathlib import Path

APP = Path("/app")
wanted = 'server example.org:8080 {\n  root "/srv/www & more";\n  alias @ALIAS@;\n}\n'
assert (APP / "site.conf").read_text() == wanted
