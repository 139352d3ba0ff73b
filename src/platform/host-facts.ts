// Facts about this machine and its processes, from /proc.

import { readFile } from 'node:fs/promises'

/** The random id of the current boot (random(4)). */
export async function readBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
}

/** Start time of a process in ticks since boot (proc_pid_stat(5), field 22), or null when it does not exist. */
export async function readStartTime(pid: number): Promise<string | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    // The command name may contain spaces and parentheses, so fields are counted from the last parenthesis.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null
  } catch {
    return null
  }
}
