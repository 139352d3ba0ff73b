// Wakes the reconcile loop when someone else changes the switch in the database, when ovsdb-server comes back, and when
// ovs-vswitchd restarts: its first action is to create the management socket.

import { watch, type FSWatcher } from 'node:fs'
import { dirname } from 'node:path'
import type { Cancel, Clock } from '#platform/clock.ts'
import { SWITCH } from '../plan/network/names.ts'
import type { Ovsdb } from './ovsdb.ts'

/** How long changes are coalesced. */
const COALESCE_MS = 250

/**
 * Calls `changed` at once for every change, so that cached state can be dropped, and `settled` once for a burst of changes.
 * Returns a function that stops it.
 */
export function watchSwitch(p: {
  readonly clock: Clock
  readonly db: Ovsdb
  /** Path of ovsdb-server's socket. */
  readonly socket: string
  readonly changed: () => void
  readonly settled: () => void
}): () => void {
  let cancel: Cancel | null = null
  let watcher: FSWatcher | null = null
  const wake = (): void => {
    p.changed()
    cancel ??= p.clock.after(COALESCE_MS, () => {
      cancel = null
      p.settled()
    })
  }
  const watchFolder = (): void => {
    watcher?.close()
    try {
      watcher = watch(dirname(p.socket), { persistent: false }, (_event, file) => {
        if (file === `${SWITCH}.mgmt`) wake()
      })
      watcher.on('error', () => undefined)
    } catch {
      // The folder does not exist while the server is down. It is watched again when the server is back.
      watcher = null
    }
  }
  watchFolder()
  p.db.onChange = reconnected => {
    if (reconnected) watchFolder()
    wake()
  }
  return () => {
    cancel?.()
    p.db.onChange = () => undefined
    watcher?.close()
  }
}
