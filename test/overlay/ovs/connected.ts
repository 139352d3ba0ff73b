// A database client on a manual clock, connected to a peer of its own; both end with the test.

import { join } from 'node:path'
import type { Test } from 'tap'
import { Ovsdb } from '#overlay/ovs/ovsdb.ts'
import { scratch } from '#test/api/scratch.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { OvsdbPeer } from './ovsdb-peer.ts'

export type Connected = { readonly peer: OvsdbPeer; readonly db: Ovsdb; readonly time: ManualClock }

export async function connected(t: Test): Promise<Connected> {
  const peer = await new OvsdbPeer(join(scratch(t), 'db.sock')).listen()
  const time = new ManualClock()
  const db = await Ovsdb.connect({ path: peer.path, clock: time.clock })
  t.teardown(async () => {
    db.close()
    await peer.stop()
  })
  return { peer, db, time }
}
