// Removes a lab in whatever state it is. It needs only the lab's id, no state of the process that made the lab.

import { existsSync, readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { kill, LAB_PREFIX, listNamespaces, pidsIn, removeNamespaces } from './kernel.ts'
import { removeRouters } from './routers.ts'

export function labDirectory(id: string): string {
  return join(tmpdir(), `${LAB_PREFIX}${id}`)
}

/** Kills what runs in the lab's namespaces, then removes them and its directory. Idempotent; may run twice at once. */
export async function teardown(id: string): Promise<void> {
  const prefix = `${LAB_PREFIX}${id}-`
  for (let turn = 0; turn < 20; turn++) {
    const pids = pidsIn(...listNamespaces(prefix))
    if (pids.length === 0) break
    for (const pid of pids) kill(pid)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  await removeRouters(listNamespaces(prefix))
  await removeNamespaces(listNamespaces(prefix))
  await rm(labDirectory(id), { recursive: true, force: true, maxRetries: 5 })
}

/** Removes labs whose process and reaper both died. A lab's id starts with its process's pid, unless it is kept. */
export async function teardownStale(): Promise<void> {
  const names = [...listNamespaces(LAB_PREFIX), ...readdirSync(tmpdir()).filter(name => name.startsWith(LAB_PREFIX))]
  const ids = new Set(
    names.map(name => /^vxlab-((\d+)x\d+)(?:-|$)/.exec(name)).flatMap(m => (m?.[1] === undefined ? [] : [m[1]]))
  )
  for (const id of ids) if (!existsSync(`/proc/${id.split('x')[0] ?? ''}`)) await teardown(id)
}
