// Counts the handler threads of ovs-vswitchd, which serve upcalls from the kernel datapath. Version 3.1, started within ten
// seconds of boot, counts zero CPUs and starts none: every packet without a cached datapath flow is then lost.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Null when the daemon cannot be inspected. @param dir folder of its sockets and pid file */
export function countHandlers(dir: string): number | null {
  try {
    const pid = Number(readFileSync(join(dir, 'ovs-vswitchd.pid'), 'utf8'))
    const tasks = `/proc/${pid}/task`
    const names = readdirSync(tasks).map(task => readFileSync(join(tasks, task, 'comm'), 'utf8').trim())
    return names[0]?.startsWith('ovs-vswitchd') === true ? names.filter(name => /^handler\d/.test(name)).length : null
  } catch {
    return null
  }
}
