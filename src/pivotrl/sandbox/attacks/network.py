"""Attempts on the network: speak to a listener of the host, or open a socket that no namespace holds."""

from __future__ import annotations

from collections.abc import Iterable

from pivotrl.sandbox.attacks.attempt import Attempt, claimed, heard
from pivotrl.sandbox.attacks.calls import number
from pivotrl.sandbox.attacks.kernel import CALL

_SPEAK = """
import socket, sys
family, kind, address = sys.argv[1:]
ways = {'unix': socket.AF_UNIX, '4': socket.AF_INET, '6': socket.AF_INET6}
with socket.socket(ways[family], int(kind)) as s:
    s.settimeout(0.5)
    place = address.replace('@', chr(0)) if family == 'unix' else (address.split()[0], int(address.split()[1]))
    try: s.connect(place); s.send(b'hello'); print('said')
    except OSError as error: print(error)
"""
_FAR = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[2] == 'udp' else socket.SOCK_STREAM
address, port = sys.argv[1].split()
with socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, kind) as s:
    s.settimeout(0.5)
    try: s.connect((address, int(port))); s.send(b'x'); print('REACHED')
    except OSError as error: print(error)
"""
_DEVICES = """
import sys
names = [line.split(':')[0].strip() for line in open(sys.argv[1]).read().splitlines()[2:]]
print('refused' if set(names) <= {'lo', 'sit0', 'tunl0', 'ip6tnl0'} else 'REACHED', names)
"""
_RESOLVE = """
import socket, sys
servers = [line.split()[1] for line in open(sys.argv[1]) if line.startswith('nameserver')]
print('REACHED' if servers else 'refused', servers)
"""
FAMILIES = {
    **{"netlink": 16, "packet": 17, "vsock": 40, "bluetooth": 31, "can": 29, "alg": 38, "key": 15, "xdp": 44},
    **{"tipc": 30, "rds": 21, "kcm": 41, "nfc": 39, "smc": 43, "ax25": 3, "appletalk": 5, "x25": 9, "ib": 27},
    **{"caif": 37, "phonet": 35, "qipcrtr": 42, "mctp": 45, "llc": 26, "pppox": 24, "atmpvc": 8},
}
_RAW = ("netlink", "packet", "bluetooth")
PLACES = {
    **{"tcp4": ("4", "1"), "udp4": ("4", "2"), "tcp6": ("6", "1"), "udp6": ("6", "2"), "outside": ("4", "1")},
    **{"unix": ("unix", "1"), "unix_datagram": ("unix", "2"), "abstract": ("unix", "1")},
    **{"abstract_datagram": ("unix", "2")},
}
FAR = {
    "metadata address": ("169.254.169.254", "80", "tcp"),
    "private address": ("10.0.0.1", "443", "tcp"),
    "public address": ("192.0.2.1", "80", "tcp"),
    "a name server": ("192.0.2.53", "53", "udp"),
    "broadcast": ("192.0.2.255", "9", "udp"),
    "multicast": ("224.0.0.251", "5353", "udp"),
    "an address of version 6": ("2001:db8::1", "80", "udp"),
}


def attempts(addresses: Iterable[str]) -> list[Attempt]:
    """``addresses``: the names of the bait's listeners."""
    found = []
    for name in addresses:
        family, kind = PLACES[name]
        found.append(Attempt(f"speak to {name}", "network", _SPEAK, heard, (family, kind, f"{{{name}}}")))
    for name, (address, port, way) in FAR.items():
        near = (f"{{{way}4}}", way)
        found.append(Attempt(f"reach {name}", "network", _FAR, claimed, (f"{address} {port}", way), near))
    sockets = {f"socket family {name}": (value, 3 if name in _RAW else 1, 0) for name, value in FAMILIES.items()}
    for name, values in {**sockets, "raw socket": (2, 3, 1)}.items():
        words = (str(number("socket")), *map(str, values))
        found.append(Attempt(name, "network", CALL, claimed, words, control_calls=("socket",)))
    devices = ("/proc/net/dev",), ("{scratch}/devices",)
    found.append(Attempt("network devices", "network", _DEVICES, claimed, *devices))
    servers = ("/etc/resolv.conf",), ("{scratch}/resolv",)
    return [*found, Attempt("name servers of the host", "network", _RESOLVE, claimed, *servers)]
