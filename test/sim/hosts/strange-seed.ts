// A backup of some other cluster, restored into a host's directory. Nobody fetches it.

import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { foundingOrigin } from '#replication/cluster/bootstrap.ts'
import { seedPath, type Seed } from '#replication/cluster/seed.ts'
import { SNAPSHOT_FILE_VERSION } from '#replication/storage/snapshot-file.ts'

export function strangeSeed(self: PeerId, dataDir: string): Seed {
  const { configuration } = foundingOrigin([self], null)
  const meta = { lastIndex: 41 as LogIndex, lastTerm: 7 as Term, configuration }
  const [id, clusterId] = ['0123456789abcdef', 'old' as ClusterId]
  return { id, snapshot: { id, clusterId, meta, version: SNAPSHOT_FILE_VERSION, size: 100, path: seedPath(dataDir) } }
}
