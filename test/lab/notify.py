# A service manager's ear: sd_notify(3) datagrams on the socket that is named, each as a JSON line with its sender's pid.
# Node has no UNIX datagrams.
import json
import socket
import struct
import sys

name = sys.argv[1]
ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ear.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
ear.bind("\0" + name[1:] if name.startswith("@") else name)
print(json.dumps({"pid": 0, "lines": []}), flush=True)
while True:
    data, ancillary, _, _ = ear.recvmsg(4096, socket.CMSG_SPACE(12))
    pid = struct.unpack("3i", ancillary[0][2])[0]
    print(json.dumps({"pid": pid, "lines": data.decode().split("\n")}), flush=True)
