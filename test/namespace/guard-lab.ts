// The lab of the guard's tests: two member hosts with tenants red and blue, and a stranger on the same underlay.

import type { Test } from 'tap'
import type { Endpoint } from '#model/endpoint.ts'
import { formatIp, parseSubnet, type Family } from '#model/ip.ts'
import { parseMac, type Mac } from '#model/mac.ts'
import { attachRequest } from '#overlay/driver.ts'
import { runPass, type Look } from '#overlay/pass.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { desired, type DesiredHost, type DesiredInput } from '#overlay/plan/network/desired.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { systemClock } from '#platform/clock.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../overlay/fixtures.ts'
import { passDone } from '../lab/pass-done.ts'
import { json } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import type { LabContainer } from '../lab/container.ts'
import type { LabHost } from '../lab/host.ts'
import { run } from '../lab/run.ts'

/** Of both families; blue has IPv4 alone. */
export const red = makeNetwork('red', 0xabc, { subnet6: parseSubnet('fd00:1::/64') })
export const blue = makeNetwork('blue', 0xdef)
export const PORT = 4789
/** Fits an underlay of either family. */
const MTU = 1430

export type GuardLab = {
  readonly lab: Lab
  readonly drivers: readonly LinuxDriver[]
  readonly endpoints: Endpoint[]
  readonly containers: ReadonlyMap<string, LabContainer>
}

/** Containers by name: [network, host, address]. All are attached; the guard is not installed yet. */
export async function openGuardLab(
  t: Test,
  where: Readonly<Record<string, readonly [typeof red, number, string]>>,
  family: Family = 'ipv4'
): Promise<GuardLab> {
  const lab = await Lab.create({ hosts: 3, family })
  t.teardown(() => lab.destroy())
  const containers = new Map<string, LabContainer>()
  for (const name of Object.keys(where)) containers.set(name, await lab.container(name))
  const endpoints = Object.entries(where).map(([container, [network, host, address]]) =>
    makeEndpoint(network, { container, host, address })
  )
  const drivers = lab.hosts.map(host => openDriver(host))
  t.teardown(() => Promise.all(drivers.map(driver => driver.close())))
  const w = { lab, drivers, endpoints, containers }
  for (const host of [1, 2]) await pass(w, host)
  for (const endpoint of endpoints) await attach(w, endpoint)
  for (const host of [1, 2]) await pass(w, host)
  return w
}

/** A host's view of the state, in which the third host does not exist. */
export function input(w: GuardLab, host: number): DesiredInput {
  return {
    self: peer(host),
    selfVtep: w.lab.host(host).vtep,
    networks: [red, blue],
    endpoints: byNetwork(w.endpoints),
    hosts: [1, 2].map(n => makeHost(n, w.lab.host(n).vtep)),
    memberStatus: null,
    overlayMtu: MTU,
    vxlanPort: PORT
  }
}

/** A driver for a host, as an agent that starts there opens one. */
export function openDriver(host: LabHost): LinuxDriver {
  return LinuxDriver.open({ underlay: vxlanUnderlay(host.vtep), hostNetns: host.netns, clock: systemClock })
}

export async function pass(w: GuardLab, host: number): Promise<readonly string[]> {
  const wanted = desired(input(w, host))
  const done = await keepFilters(driverOf(w, host), { wanted, mayRemove: true })
  const forwarding = driverOf(w, host).parts.filter(({ concern }) => concern === 'forwarding')
  const [report] = await runPass(forwarding, look({ wanted, mayRemove: true }))
  if (report?.failures[0] !== undefined) throw report.failures[0].error
  return done
}

/** The filters alone; returns what there was to do. */
export async function keepFilters(
  driver: LinuxDriver,
  p: { readonly wanted: DesiredHost; readonly mayRemove: boolean }
): Promise<readonly string[]> {
  const filters = driver.parts.filter(({ concern }) => concern === 'filter')
  return passDone(await runPass(filters, look(p)))
}

function look({ wanted, mayRemove }: { readonly wanted: DesiredHost; readonly mayRemove: boolean }): Look {
  const gateways = (): never => {
    throw new Error('the guard has no routers')
  }
  return { scope: null, trust: false, mayRemove, desired: { host: () => wanted, gateways } }
}

export async function attach(w: GuardLab, endpoint: Endpoint): Promise<void> {
  const host = endpoint.host === peer(1) ? 1 : 2
  const network = endpoint.network === red.name ? red : blue
  const { netns } = containerOf(w, endpoint.containerId)
  await driverOf(w, host).devices.attach(attachRequest({ endpoint, network, overlayMtu: MTU, netns, withRoute: true }))
}

export async function setGuard(w: GuardLab, port: number | null): Promise<void> {
  for (const host of [1, 2]) {
    await driverOf(w, host).setGuard(port)
    await pass(w, host)
  }
}

export function driverOf(w: GuardLab, host: number): LinuxDriver {
  return found(w.drivers[host - 1], `host ${host}`)
}

export function containerOf(w: GuardLab, name: string): LabContainer {
  return found(w.containers.get(name), name)
}

export function endpointOf(w: GuardLab, container: string): Endpoint {
  return found(
    w.endpoints.find(endpoint => endpoint.containerId === container),
    container
  )
}

export async function link(
  at: LabContainer | LabHost,
  ifname = 'eth0'
): Promise<{ readonly ifindex: number; readonly mac: Mac }> {
  const [row] = await json<{ ifindex: number; address: string }>('ip', at.namespace, `link show dev ${ifname}`)
  const { ifindex, address } = found(row, ifname)
  return { ifindex, mac: parseMac(address) }
}

/** Rules of another program that accept everything, before and after ours. */
export const ACCEPT_ALL = ['bridge', 'inet', 'ip']
  .map(
    family => `table ${family} others {
  chain first { type filter hook prerouting priority -2000; policy accept; accept; }
  chain host { type filter hook input priority -2000; policy accept; accept; }
  chain last { type filter hook input priority 2000; policy accept; accept; }
}`
  )
  .join('\n')

/** Runs an nft script on a host. */
export async function nft(host: LabHost, script: string): Promise<string> {
  const { exitCode, stdout, stderr } = await run('nsenter', [`--net=${host.netns}`, 'nft', '-f', '-'], {
    input: script
  })
  if (exitCode !== 0) throw new Error(`nft ${script}: ${stderr}`)
  return stdout
}

export async function ruleset(host: LabHost): Promise<string> {
  return (await run('nsenter', [`--net=${host.netns}`, 'nft', '-s', 'list', 'ruleset'])).stdout
}

/** As ping takes it. */
export function address(endpoint: Endpoint): string {
  return formatIp(endpoint.address)
}

function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`no ${what}`)
  return value
}
