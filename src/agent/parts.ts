// What an agent is made of before it runs: the lock, the driver, what is on disk, the mesh. Opened in order, and all closed
// again when one of them cannot be had.

import type { ClusterKeys } from '#config/cluster-key.ts'
import type { Config } from '#config/schema.ts'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import { ensureDirectory } from '#platform/files.ts'
import { readBootId } from '#platform/host-facts.ts'
import { lockDirectory, type Lock } from '#platform/lock.ts'
import type { Logger } from '#platform/log.ts'
import { loadIdentity } from '#replication/identity.ts'
import { Mesh } from '#replication/mesh.ts'
import { readSeed, type Seed } from '#replication/seed.ts'
import { openStorage, type Storage } from '#replication/storage.ts'
import { openDriver } from './open-driver.ts'

const TOPIC = 'vxmesh-feed-1'

/** Reads the configuration again from where it came from. */
export type ReadConfig = () => Promise<Config>

export type Settings = {
  readonly config: Config
  readonly keys: ClusterKeys | null
  readonly logger: Logger
  readonly readConfig: ReadConfig
}

export type Parts = Settings & {
  readonly identity: Awaited<ReturnType<typeof loadIdentity>>
  readonly storage: Storage
  readonly seed: Seed | null
  readonly driver: OverlayDriver
  /** What the underlay leaves to containers, bytes. */
  readonly underlay: number
  readonly mesh: Mesh
  readonly bootId: string
  readonly lock: Lock
  /** Who may connect; nobody until the agent says. */
  readonly known: { isKnown: (peer: PeerId) => boolean }
}

/** @throws VxmeshError naming what is wrong with the configuration or the machine */
export async function openParts(settings: Settings): Promise<Parts> {
  const { config, keys, logger } = settings
  await ensureDirectory(config.dataDir)
  const lock = await lockDirectory(config.dataDir)
  let driver: OverlayDriver | null = null
  try {
    driver = await openDriver(config.overlay)
    await driver.setGuard(config.overlay.guard === 'required' ? config.overlay.port : null)
    const underlay = await driver.overlayMtu()
    const identity = await loadIdentity(config.dataDir)
    const seed = await readSeed(config.dataDir)
    if (seed !== null && config.role !== 'server') {
      const what = 'a backup was restored into dataDir, and only servers found a cluster from it'
      throw new VxmeshError('ERR_CONFIG', `role: must be server: ${what}`, { field: 'role' })
    }
    const storage = await openStorage(config.dataDir, identity.peerId)
    const { cutBytes } = storage.recovered
    if (cutBytes > 0) logger.warn({ bytes: cutBytes }, 'unfinished append cut off')
    for (const path of storage.damagedSnapshots) logger.warn({ path }, 'damaged snapshot not used')
    const bootId = await readBootId()
    const known: Parts['known'] = { isKnown: () => false }
    const mesh = await Mesh.start({
      privateKey: identity.privateKey,
      bind: config.bind,
      port: config.p2p.port,
      preSharedKey: keys === null ? null : keys.p2p,
      topic: TOPIC,
      isKnown: peer => known.isKnown(peer),
      logger: logger.child({ room: 'replication' })
    })
    return { ...settings, identity, storage, seed, driver, underlay, mesh, bootId, lock, known }
  } catch (err) {
    await driver?.close()
    await lock.release()
    throw err
  }
}
