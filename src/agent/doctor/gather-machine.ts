// Gathers the machine's facts for judge-machine.ts. Probes use scratch files and leave the machine as it was.

import { constants } from 'node:fs'
import { access, open, stat, statfs, unlink } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { dirname, join } from 'node:path'
import type { Config } from '#config/schema.ts'
import { asVxmeshError } from '#model/errors.ts'
import { formatIp } from '#model/ip.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import { routerDevice } from '#overlay/plan/gateway/desired-gateway.ts'
import { nameRole } from '#overlay/plan/network/names.ts'
import type { Clock } from '#platform/clock.ts'
import { readSysctls } from '#platform/netns.ts'
import { run } from '#platform/process.ts'
import type { DiskFacts, Guarded, MachineFacts } from './facts.ts'

const SYNCS = 3
const SYNC_BYTES = 4_096
/** statfs(2) */
const VOLATILE = new Set([0x01021994, 0x858458f6])

type Driver = Pick<OverlayDriver, 'devices' | 'features'>

type MachineSources = {
  readonly config: Config
  /** The agent's driver, one opened for doctor alone, or the reason why there is none. */
  readonly driver: Driver | string
  readonly clock: Clock
}

export async function gatherMachine({ config, driver, clock }: MachineSources): Promise<MachineFacts> {
  const device = deviceOf(formatIp(config.overlay.vtep))
  const ask = async <T>(question: (opened: Driver) => Promise<T>): Promise<T | string> =>
    typeof driver === 'string' ? driver : question(driver).catch((err: unknown) => asVxmeshError(err).message)
  const [features, underlay, disk, guarded, serfVersion] = await Promise.all([
    ask(opened => opened.features()),
    ask(opened => opened.devices.underlay()),
    diskFacts(config.dataDir, clock).catch((err: unknown) => asVxmeshError(err).message),
    guardedFiles(config),
    versionOf(config.serf.binary)
  ])
  return {
    features,
    underlay: typeof underlay === 'string' ? underlay : { device: device ?? 'unknown', mtu: underlay.mtu },
    sysctls: sysctlsOf(device),
    uplinks: uplinks().length,
    disk,
    guarded,
    serfVersion
  }
}

function sysctlsOf(device: string | null): Readonly<Record<string, number | null>> {
  const keys = [
    'net/ipv4/ip_forward',
    'net/bridge/bridge-nf-call-iptables',
    'net/bridge/bridge-nf-call-ip6tables',
    'net/netfilter/nf_conntrack_count',
    'net/netfilter/nf_conntrack_max',
    'net/ipv4/conf/all/rp_filter',
    ...(device === null ? [] : [`net/ipv4/conf/${device}/rp_filter`])
  ]
  const values = readSysctls(null, keys)
  return Object.fromEntries(keys.map((key, i) => [key, typeof values[i] === 'string' ? Number(values[i]) : null]))
}

/** Devices with an IPv4 address, except loopback and our own. */
function uplinks(): readonly string[] {
  return Object.entries(networkInterfaces())
    .filter(([, addresses]) => addresses?.some(({ family, internal }) => family === 'IPv4' && !internal) === true)
    .map(([name]) => name)
    .filter(name => nameRole(name) === null && routerDevice(name) === null)
}

function deviceOf(address: string): string | null {
  const holders = Object.entries(networkInterfaces())
  return holders.find(([, addresses]) => addresses?.some(own => own.address === address) === true)?.[0] ?? null
}

async function diskFacts(path: string, clock: Clock): Promise<DiskFacts> {
  const { bavail, blocks, bsize, type } = await statfs(path)
  const syncMs = await slowestSync(join(path, 'doctor.probe'), clock).catch(
    (err: unknown) => asVxmeshError(err).message
  )
  return { path, freeBytes: bavail * bsize, totalBytes: blocks * bsize, volatile: VOLATILE.has(type), syncMs }
}

/** Times a few synced writes to a scratch file on the log's disk, in ms. */
async function slowestSync(path: string, clock: Clock): Promise<number> {
  await access(dirname(path), constants.W_OK)
  const file = await open(path, 'w', 0o600)
  try {
    let slowest = 0
    for (let n = 0; n < SYNCS; n++) {
      const sinceMs = clock.nowMs()
      await file.write(Buffer.alloc(SYNC_BYTES))
      await file.datasync()
      slowest = Math.max(slowest, clock.nowMs() - sinceMs)
    }
    return slowest
  } finally {
    await file.close()
    await unlink(path)
  }
}

function guardedFiles(config: Config): Promise<readonly Guarded[]> {
  const { clusterKeyFile, dataDir, insecure, socket, zmq } = config
  const paths = [
    ...(insecure ? [] : [clusterKeyFile]),
    ...(zmq.secretKeyFile === undefined ? [] : [zmq.secretKeyFile]),
    ...[socket, dataDir, join(dataDir, 'identity.key'), join(dataDir, 'serf/serf.json')]
  ]
  return Promise.all(
    paths.map(async path => {
      const found = await stat(path).catch(() => null)
      return { path, mode: found === null ? null : found.mode & 0o777, owner: found?.uid ?? 0 }
    })
  )
}

async function versionOf(binary: string): Promise<string | null> {
  try {
    const { stdout, exitCode } = await run(binary, ['version'], { timeoutMs: 2_000 })
    return exitCode === 0 ? (stdout.split('\n')[0] ?? '') : null
  } catch {
    return null
  }
}
