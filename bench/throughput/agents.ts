// The forms made by vxmesh: for each of its drivers two hosts with agents, all in one cluster, and a network of its own.

import { join } from 'node:path'
import type { Family } from '#model/ip.ts'
import { run } from '#platform/process.ts'
import { bare, type LabContainer } from '../../test/lab/container.ts'
import type { LabHost } from '../../test/lab/host.ts'
import type { Lab } from '../../test/lab/lab.ts'
import { OpenVSwitch } from '../../test/lab/open-vswitch.ts'
import { CONTAINER_MTU, type End, type Form, type FormName } from './form.ts'

/** What is configured as `overlay`, and what `status` must say of it. */
type Plane = {
  readonly name: FormName
  readonly driver: string
  readonly guard: string
  /** What `auto` must have become. Null: any but off. */
  readonly guardInUse: string | null
}

const PLANES: readonly Plane[] = [
  { name: 'bpf', driver: 'bpf', guard: 'auto', guardInUse: 'bpf' },
  { name: 'linux', driver: 'linux', guard: 'nft', guardInUse: 'nft' },
  { name: 'linux-bpf', driver: 'linux', guard: 'bpf', guardInUse: 'bpf' }
]
const OVS: Plane = { name: 'ovs', driver: 'ovs', guard: 'auto', guardInUse: null }

/** Of one agent's start, and of its way into the cluster. Stretched on a busy machine. */
const READY_MS = 60_000

export type AgentForms = { readonly forms: readonly Form[]; readonly switches: readonly OpenVSwitch[] }

/** @param p.withOvs whether the kernel has the datapath of Open vSwitch */
export async function agentForms(
  lab: Lab,
  p: { readonly withOvs: boolean; readonly family: Family }
): Promise<AgentForms> {
  const planes = [...PLANES, ...(p.withOvs ? [OVS] : [])]
  const switches: OpenVSwitch[] = []
  const hosts: LabHost[] = []
  try {
    for (const plane of planes) {
      for (let n = 0; n < 2; n++) hosts.push(await addHost(lab, { plane, server: hosts[0], switches }))
    }
    await Promise.all(hosts.map(host => host.startAgent()))
    await Promise.all(hosts.map(host => host.waitReady(READY_MS)))
    const forms: Form[] = []
    for (const [n, plane] of planes.entries()) {
      const [first, second] = hosts.slice(2 * n, 2 * n + 2)
      if (first === undefined || second === undefined) throw new Error('two hosts are needed')
      const subnet = p.family === 'ipv4' ? `10.1.${n}.0/24` : `fd00:1:${n}::/64`
      forms.push(await makeForm(lab, { plane, first, second, subnet }))
    }
    return { forms, switches }
  } catch (err) {
    for (const ovs of switches) await ovs.stop()
    throw err
  }
}

/**
 * Why Open vSwitch is left out, or null. Its userspace datapath, which needs no module, copies each packet to a process
 * and back and is no peer of the others.
 */
export async function whyNoOvs(): Promise<string | null> {
  const cannot = await OpenVSwitch.cannotRun()
  if (cannot !== false) return cannot
  // In a namespace of its own it sees no other's datapaths, but fails without the module.
  const { exitCode } = await run('unshare', ['--net', 'ovs-dpctl', 'dump-dps'])
  return exitCode === 0 ? null : 'this kernel has no openvswitch module; the userspace datapath is no fair peer'
}

/** The first host is the only server. */
async function addHost(
  lab: Lab,
  p: { readonly plane: Plane; readonly server: LabHost | undefined; readonly switches: OpenVSwitch[] }
): Promise<LabHost> {
  const { plane, server, switches } = p
  const { driver, guard } = plane
  const dir = join(lab.dir, `ovs-${lab.hosts.length + 1}`)
  const ovs = driver === 'ovs' ? { socket: join(dir, 'db.sock'), datapath: 'system' } : null
  const role =
    server === undefined ? { bootstrapExpect: 1 } : { role: 'client' as const, join: [server.address] as const }
  const overlay = { driver, guard, ...(ovs === null ? {} : { ovs }) }
  const host = await lab.addHost({ ...role, logLevel: 'warn', settings: { overlay } })
  if (ovs !== null) switches.push(await OpenVSwitch.start(host.namespace, dir))
  return host
}

async function makeForm(
  lab: Lab,
  p: { readonly plane: Plane; readonly first: LabHost; readonly second: LabHost; readonly subnet: string }
): Promise<Form> {
  const { plane, first, second, subnet } = p
  const { name } = plane
  for (const host of [first, second]) await assertPlane(host, plane)
  await first.api.call('POST', '/v1/networks', { name, subnet })
  const [near, beside, far] = await lab.containers([`${name}-near`, `${name}-beside`, `${name}-far`])
  if (near === undefined || beside === undefined || far === undefined) throw new Error('no containers')
  const from = await attach(first, near, name)
  const local = { from, to: await attach(first, beside, name) }
  return { name, paths: { hosts: { from, to: await attach(second, far, name) }, local } }
}

/** @throws Error when the agent runs another driver or guard than the form is to measure */
async function assertPlane(host: LabHost, { name, driver, guardInUse }: Plane): Promise<void> {
  const { overlay } = await host.status()
  const isGuarded = guardInUse === null ? overlay.guard !== 'off' : overlay.guard === guardInUse
  if (overlay.driver !== driver || !isGuarded) {
    throw new Error(`form ${name}: ${host.name} runs driver ${overlay.driver} with guard ${overlay.guard}`)
  }
}

async function attach(host: LabHost, container: LabContainer, network: string): Promise<End> {
  const { address } = await host.attach(container, network)
  const mtu = (await container.link())?.mtu
  if (mtu !== CONTAINER_MTU) throw new Error(`${container.name} has MTU ${mtu ?? 'of nothing'}`)
  return { namespace: container.namespace, address: bare(address) }
}
