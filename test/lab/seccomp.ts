// systemd's SystemCallFilter= as an allow-list, by libseccomp: a program that installs the filter and executes the next one.

import { constants } from 'node:os'
import { must } from './kernel.ts'

const INSTALL = `
import ctypes, os, sys
errno, names, command = int(sys.argv[1]), sys.argv[2].split(','), sys.argv[3:]
lib = ctypes.CDLL('libseccomp.so.2', use_errno=True)
lib.seccomp_init.restype = ctypes.c_void_p; lib.seccomp_init.argtypes = [ctypes.c_uint32]
lib.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
lib.seccomp_load.argtypes = [ctypes.c_void_p]
context = lib.seccomp_init(0x00050000 | errno)
for name in names:
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number >= 0 and lib.seccomp_rule_add(context, 0x7fff0000, number, 0) != 0: sys.exit('cannot allow ' + name)
if lib.seccomp_load(context) != 0: sys.exit('cannot load the filter')
os.execvp(command[0], command)
`

/**
 * @param allowed system calls and systemd's sets of them
 * @param error name of the errno with which all others fail
 */
export async function seccompCommand(allowed: readonly string[], error: string): Promise<readonly string[]> {
  const names = await Promise.all(allowed.map(expand))
  const errno = (constants.errno as Record<string, number>)[error]
  if (errno === undefined) throw new Error(`no error ${error}`)
  return ['/usr/bin/python3', '-c', INSTALL, `${errno}`, [...new Set(names.flat())].join(',')]
}

/** The system calls of a set, of those that it contains as well. */
async function expand(name: string): Promise<readonly string[]> {
  if (!name.startsWith('@')) return [name]
  const text = await must('systemd-analyze', ['syscall-filter', name])
  const members = text
    .split('\n')
    .slice(1)
    .map(line => line.trim())
  const inner = await Promise.all(members.filter(line => /^@?[a-z0-9_-]+$/.test(line)).map(expand))
  return inner.flat()
}
