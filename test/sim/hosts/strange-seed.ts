// A backup of some other cluster, restored into a host's directory.

import { encodeState } from '#allocator/snapshot.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { foundingOrigin } from '#replication/cluster/bootstrap.ts'
import type { Seed } from '#replication/cluster/seed.ts'
import { snapshotFileChunks } from '#replication/storage/snapshot-file.ts'

export function strangeSeed(self: PeerId): Seed {
  const { configuration } = foundingOrigin([self], null)
  const meta = { lastIndex: 41 as LogIndex, lastTerm: 7 as Term, configuration }
  const snapshot = { clusterId: 'old' as ClusterId, meta, data: encodeMsgpack(encodeState(new ClusterState())) }
  return { id: '0123456789abcdef', bytes: Buffer.concat([...snapshotFileChunks(snapshot)]), snapshot }
}
