// The parts that exist before the agent: the directory's lock, the driver, what is on disk, Serf. They are opened in order,
// and all are closed again if one cannot be opened. None needs libp2p: Serf finds other hosts while libp2p is being loaded.

import { keylessPorts } from '#config/zmq-keys.ts'
import type { Doors } from '#overlay/plan/filter/ruleset.ts'
import { serfRpcToken, type ClusterKeys } from '#config/cluster-key.ts'
import type { Config } from '#config/schema.ts'
import type { MembershipOptions } from '#membership/serf/membership.ts'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import { PROTOCOL_VERSION } from '#model/member.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import type { Underlay } from '#overlay/plan/underlay/underlay.ts'
import { diskFiles } from '#platform/file-layer.ts'
import { ensureDirectory } from '#platform/files.ts'
import { readBootId } from '#platform/host-facts.ts'
import { lockDirectory, type Lock } from '#platform/lock.ts'
import type { Logger } from '#platform/log.ts'
import { loadIdentity } from '#replication/transport/identity.ts'
import { readSeed, type Seed } from '#replication/cluster/seed.ts'
import { openStorage, type Storage } from '#replication/storage/storage.ts'
import type { Machine, MembershipPort } from './machine.ts'

/** Reads the configuration again from its file, environment and flags. */
export type ReadConfig = () => Promise<Config>

export type Settings = Machine & {
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
  readonly underlay: Underlay
  /** Launched: Serf is starting. */
  readonly membership: MembershipPort
  readonly bootId: string
  readonly lock: Lock
  /** Why the kernel cannot match connections on loopback to users; null if it can. */
  readonly noOwners: string | null
}

/** @throws VxmeshError naming what is wrong with the configuration or the machine */
export async function openParts(settings: Settings): Promise<Parts> {
  const { config, clock, logger } = settings
  await ensureDirectory(config.dataDir)
  const lock = await lockDirectory(config.dataDir)
  let driver: OverlayDriver | null = null
  let storage: Storage | null = null
  let membership: MembershipPort | null = null
  try {
    driver = await settings.openDriver(config.overlay, clock)
    const noOwners = await setFilters(driver, settings)
    const underlay = await driver.devices.underlay()
    const identity = await loadIdentity(config.dataDir)
    const seed = await readSeed({ dataDir: config.dataDir, files: diskFiles })
    if (seed !== null && config.role !== 'server') {
      const what = 'a backup was restored into dataDir, and only servers found a cluster from it'
      throw new VxmeshError('ERR_CONFIG', `role: must be server: ${what}`, { field: 'role' })
    }
    storage = await openStorage(config.dataDir, identity.peerId, { clock })
    const { cutBytes } = storage.recovered
    if (cutBytes > 0) logger.warn({ bytes: cutBytes }, 'unfinished append cut off')
    for (const path of storage.damagedSnapshots) logger.warn({ path }, 'damaged snapshot not used')
    const bootId = await readBootId()
    membership = settings.makeMembership(
      membershipOptions({ settings, peerId: identity.peerId, seed, storage, noOwners })
    )
    await membership.launch()
    return { ...settings, identity, storage, seed, driver, underlay, membership, bootId, lock, noOwners }
  } catch (err) {
    await closeParts({ membership, storage, driver, lock })
    throw err
  }
}

/**
 * Side by side, for each waits for nft several times.
 * @returns why the kernel cannot match connections on loopback to users; null if it can
 * @throws ERR_UNSUPPORTED naming `overlay.guard`, ERR_KERNEL
 */
async function setFilters(driver: OverlayDriver, { config, logger }: Settings): Promise<string | null> {
  const { bind, overlay, serf } = config
  // All are awaited even if one fails: the driver is closed then.
  const [guard, doors, limits] = await Promise.allSettled([
    driver.setGuard(overlay.guard === 'off' ? null : overlay.port),
    driver.setDoors(doorsOf(config)),
    driver.setSerfLimits({ bind, port: serf.port })
  ])
  if (guard.status === 'rejected') throw guard.reason
  if (doors.status === 'rejected') throw doors.reason
  if (limits.status === 'rejected') throw limits.reason
  if (driver.noPrograms !== null) logger.warn({ why: driver.noPrograms }, 'no eBPF programs: nftables guards the ports')
  if (doors.value !== null) logger.warn({ why: doors.value }, 'local users are not kept from the ports on loopback')
  if (limits.value !== null) logger.warn({ why: limits.value }, 'packets to Serf’s port are not limited')
  return doors.value
}

/** Other hosts see this host as failed; its kernel stays as it is. */
export async function closeParts(parts: {
  readonly membership: MembershipPort | null
  readonly storage: Storage | null
  readonly driver: OverlayDriver | null
  readonly lock: Lock
}): Promise<void> {
  await parts.membership?.stop()
  // Closed already by an agent that ran.
  await parts.storage?.wal.close()
  await parts.driver?.close()
  await parts.lock.release()
}

function membershipOptions(p: {
  settings: Settings
  peerId: PeerId
  seed: Seed | null
  storage: Storage
  noOwners: string | null
}): MembershipOptions {
  const { config, keys, clock, random, logger } = p.settings
  const { origin } = p.storage.recovered
  return {
    name: config.name,
    bind: config.bind,
    port: config.serf.port,
    rpcPort: config.serf.rpcPort,
    binary: config.serf.binary,
    dataDir: config.dataDir,
    rpcAuth: keys === null || p.noOwners === null ? null : serfRpcToken(keys, p.peerId),
    encryptKey: keys === null ? null : Buffer.from(keys.serf),
    tags: {
      role: config.role,
      peerId: p.peerId,
      p2pPort: config.p2p.port,
      vtep: config.overlay.vtep,
      protocol: PROTOCOL_VERSION,
      bootstrapExpect: config.role === 'server' ? config.bootstrapExpect : 0,
      ...(p.seed === null ? {} : { seed: p.seed.id }),
      ...(origin === null ? {} : { clusterId: origin.clusterId })
    },
    join: config.join,
    clock,
    random,
    logger: logger.child({ room: 'membership' })
  }
}

/** Processes of root and of the agent's user may connect to both; the configured users to ZeroMQ alone. */
function doorsOf({ serf, zmq }: Config): Doors {
  const own = [...new Set([0, process.getuid?.() ?? 0])]
  const users = [...new Set([...own, ...zmq.users])]
  return [{ port: serf.rpcPort, users: own }, ...keylessPorts(zmq).map(port => ({ port, users }))]
}
