from pathlib import Path

APP = Path("/app")
wanted = ("# main settings\n[http]\nport = 8080\n\n[https]\n; secure\nport = 8443\n\n[client]\ntimeout = 5\n"
          "retries = 3\n\n[log]\nlevel = info\n")
assert (APP / "server.ini").read_text() == wanted
