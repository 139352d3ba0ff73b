// Judges the machine, with or without an agent: kernel, files, disk. Pure.

import type { FindingView } from '#model/views.ts'
import type { DiskFacts, Guarded, MachineFacts } from './facts.ts'
import { failed, ok, some, warning } from './finding.ts'

const MIB = 1024 * 1024
/** A log segment and a snapshot need this much. */
const FULL_BYTES = 64 * MIB
const LOW_BYTES = 1024 * MIB
/** Every committed change waits for one synced write. */
const SLOW_SYNC_MS = 100
const CONNTRACK_LOW = 0.8
const CONNTRACK_FULL = 0.97

export function judgeMachine(facts: MachineFacts): readonly FindingView[] {
  return [
    ...features(facts),
    underlay(facts),
    bridgeFilter(facts),
    forwarding(facts),
    reversePath(facts),
    conntrack(facts),
    ...disk(facts.disk),
    permissions(facts),
    serfProgram(facts)
  ]
}

function features({ features: found }: MachineFacts): readonly FindingView[] {
  if (typeof found === 'string') {
    return [failed('kernel', `the driver cannot be asked: ${found}`, 'run as root; see overlay.driver')]
  }
  return found.map(({ name, present, required, detail }) => {
    const id = `kernel.${name}`
    if (present) return ok(id, detail)
    return required
      ? failed(id, detail, 'load the kernel module, or install what is named; vxmesh needs it')
      : warning(id, detail, 'works without it, but less well: load the kernel module, or see the detail')
  })
}

function underlay({ underlay: found }: MachineFacts): FindingView {
  if (typeof found === 'string')
    return failed('underlay', found, 'give this host the address of `bind`, or correct `bind`')
  return ok('underlay', `${found.device}, MTU ${found.mtu}`)
}

/** Kubernetes expects 1. Our filters keep NAT and connection tracking away from bridged packets, but cannot overrule a drop. */
function bridgeFilter({ sysctls, features: found }: MachineFacts): FindingView {
  if (sysctls['net/bridge/bridge-nf-call-iptables'] !== 1 && sysctls['net/bridge/bridge-nf-call-ip6tables'] !== 1)
    return ok('br_netfilter', 'bridged packets are not given to iptables')
  const drops = typeof found === 'string' ? undefined : found.find(({ name, present }) => name === 'egress' && !present)
  if (drops === undefined)
    return ok('br_netfilter', 'bridged packets pass iptables, but not its NAT: they are not tracked')
  const what = `bridged packets pass iptables as well (${drops.detail})`
  return warning(
    'br_netfilter',
    what,
    'if pings between containers fail: accept what comes in by vb* and goes out by vb*, too'
  )
}

function forwarding({ sysctls }: MachineFacts): FindingView {
  const on = sysctls['net/ipv4/ip_forward'] === 1
  return ok('ip_forward', on ? 'on, for all of this host' : 'off: the agent turns it on for its own devices alone')
}

function reversePath({ sysctls, uplinks }: MachineFacts): FindingView {
  const strict = Object.entries(sysctls).filter(([key, value]) => key.endsWith('/rp_filter') && value === 1)
  if (strict.length === 0 || uplinks < 2)
    return ok('rp_filter', strict.length === 0 ? 'not strict' : 'strict, with one way out')
  const found = `strict (${strict.map(([key]) => key).join(', ')}) with ${uplinks} devices that lead outside`
  return warning('rp_filter', found, 'if replies come by another device than requests left by: set it to 2')
}

function conntrack({ sysctls }: MachineFacts): FindingView {
  const [count, max] = [sysctls['net/netfilter/nf_conntrack_count'], sysctls['net/netfilter/nf_conntrack_max']]
  if (typeof count !== 'number' || typeof max !== 'number' || max === 0)
    return ok('conntrack', 'no table: nothing is tracked')
  const found = `${count} of ${max} connections tracked`
  const todo = 'raise net.netfilter.nf_conntrack_max: new connections to the outside are dropped when it is full'
  if (count >= max * CONNTRACK_FULL) return failed('conntrack', found, todo)
  return count >= max * CONNTRACK_LOW ? warning('conntrack', found, todo) : ok('conntrack', found)
}

function disk(facts: DiskFacts | string): readonly FindingView[] {
  if (typeof facts === 'string')
    return [failed('disk', facts, 'see `dataDir`: make it a directory of root on a local disk')]
  const { path, freeBytes, totalBytes, volatile, syncMs } = facts
  const free = `${path}: ${Math.floor(freeBytes / MIB)} of ${Math.floor(totalBytes / MIB)} MiB free`
  const room = 'make room, or the agent ends when its log cannot grow'
  const space =
    freeBytes < FULL_BYTES
      ? failed('disk.space', free, room)
      : freeBytes < LOW_BYTES
        ? warning('disk.space', free, room)
        : ok('disk.space', free)
  const sync =
    typeof syncMs === 'string'
      ? failed(
          'disk.sync',
          `${path} cannot be written: ${syncMs}`,
          'repair or replace the disk; a server there cannot vote'
        )
      : syncMs > SLOW_SYNC_MS
        ? warning(
            'disk.sync',
            `a durable write takes ${Math.round(syncMs)} ms`,
            'move dataDir to a faster disk: each change waits for it'
          )
        : ok('disk.sync', `a durable write takes ${syncMs.toFixed(1)} ms`)
  const kept = volatile
    ? warning('disk.kept', `${path} is in memory`, 'move dataDir to a disk: a server that forgets its vote is refused')
    : ok('disk.kept', `${path} is on a disk`)
  return [space, sync, kept]
}

function permissions({ guarded }: MachineFacts): FindingView {
  const wrong = guarded.flatMap(inspectMode)
  if (wrong.length > 0)
    return failed(
      'permissions',
      some(wrong),
      'chown root and chmod go= what is named; who has read a key needs a new one'
    )
  const there = guarded.filter(({ mode }) => mode !== null).length
  return ok('permissions', `${there} files and directories are for root alone`)
}

function serfProgram({ serfVersion }: MachineFacts): FindingView {
  if (serfVersion === null) return failed('serf.program', 'serf does not run', 'install it, or set `serf.binary`')
  return ok('serf.program', serfVersion)
}

/** Faults of its mode and owner, as messages; none for a file that does not exist. */
function inspectMode({ path, mode, owner }: Guarded): readonly string[] {
  if (mode === null) return []
  return [
    ...((mode & 0o077) === 0
      ? []
      : [`${path} has mode ${(mode & 0o777).toString(8).padStart(4, '0')}: others may reach it`]),
    ...(owner === 0 ? [] : [`${path} belongs to user ${owner}`])
  ]
}
