// Whether ovs-vswitchd has anybody who reads what its kernel datapath asks. One (3.1) that began within ten seconds of its
// kernel counts no processor and starts none: then every packet that no flow of the datapath knows yet is lost.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Threads that answer the kernel's questions; null where that cannot be told. @param dir folder of its sockets and pid file */
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
