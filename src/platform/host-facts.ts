// What the machine says of itself.

import { readFile } from 'node:fs/promises'

/** A random id that the kernel makes at each boot (random(4)). */
export async function readBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
}

/** Ticks since boot at which a process started (proc(5), stat field 22), or null when there is no such process. */
export async function readStartTime(pid: number): Promise<string | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    // The command's name may hold spaces and parentheses: count fields after the last one.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null
  } catch {
    return null
  }
}
