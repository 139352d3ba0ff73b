// Wakes the reconcile loop when somebody else changed the switch in the database, when its server is back, and when the
// switch itself has begun anew, which makes its socket first of all.

import { watch, type FSWatcher } from 'node:fs'
import { dirname } from 'node:path'
import { SWITCH } from '../plan/network/names.ts'
import type { Ovsdb } from './ovsdb.ts'

/** Changes are gathered for so long. */
const GATHER_MS = 250

/** @param changed what was known of the switch may not be so any more; `settled` comes after it, once for many. Returns how to stop. */
export function watchSwitch(p: {
  readonly db: Ovsdb
  /** Path of ovsdb-server's socket. */
  readonly socket: string
  readonly changed: () => void
  readonly settled: () => void
}): () => void {
  let timer: NodeJS.Timeout | null = null
  let watcher: FSWatcher | null = null
  const wake = (): void => {
    p.changed()
    timer ??= setTimeout(() => {
      timer = null
      p.settled()
    }, GATHER_MS)
    timer.unref()
  }
  const look = (): void => {
    watcher?.close()
    try {
      watcher = watch(dirname(p.socket), { persistent: false }, (_event, file) => {
        if (file === `${SWITCH}.mgmt`) wake()
      })
      watcher.on('error', () => undefined)
    } catch {
      // The folder is gone with the server: when that is back, it is looked at again.
      watcher = null
    }
  }
  look()
  p.db.onChange = returned => {
    if (returned) look()
    wake()
  }
  return () => {
    if (timer !== null) clearTimeout(timer)
    p.db.onChange = () => undefined
    watcher?.close()
  }
}
