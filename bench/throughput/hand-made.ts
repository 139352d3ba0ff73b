// The forms made with ip(8), on two hosts without agents: no rule, program or queue of ours is in their way.

import { familyOf, parseIp, type Family } from '#model/ip.ts'
import type { LabContainer } from '../../test/lab/container.ts'
import type { LabHost } from '../../test/lab/host.ts'
import { ipBatch } from '../../test/lab/kernel.ts'
import type { Lab } from '../../test/lab/lab.ts'
import { CONTAINER_MTU, type End, type Form, type Path } from './form.ts'

const MTU = `mtu ${CONTAINER_MTU}`

/** Addresses that nobody else has, and that are to be used at once. */
const NODAD: Readonly<Record<Family, string>> = { ipv4: '', ipv6: 'nodad' }
const FORWARDING: Readonly<Record<Family, string>> = {
  ipv4: 'net.ipv4.ip_forward=1',
  ipv6: 'net.ipv6.conf.all.forwarding=1'
}

type Hosts = readonly [LabHost, LabHost]
/** Where forms are made. */
type There = { readonly lab: Lab; readonly hosts: Hosts; readonly family: Family }
type VxlanOptions = { readonly vni: number; readonly port: number }

/** @param family of the containers' traffic */
export async function handMadeForms(lab: Lab, family: Family): Promise<Form[]> {
  const hosts: Hosts = [await lab.addHost(), await lab.addHost()]
  const there = { lab, hosts, family }
  return [await veth(there), await routed(there), await hand(there)]
}

/** Containers whose hosts route for them, and one veth pair between the two on the first host. */
async function veth({ lab, hosts, family }: There): Promise<Form> {
  const [near, beside, far] = await containers(lab, 'veth')
  for (const [n, container] of [near, far].entries()) {
    const [host] = hostAndOther(hosts, n)
    await ipBatch(
      [
        `link add rve0 ${MTU} type veth peer name eth0 ${MTU} netns ${container.namespace}`,
        `addr add ${prefix(at(family, n + 1, 1))} dev rve0 ${NODAD[family]}`,
        'link set rve0 up',
        `addr add ${prefix(at(family, 9, n + 1))} dev eth0 ${NODAD[family]}`,
        `route add ${prefix(at(family, 2 - n, 0))} via ${at(family, 9, 2 - n)}`
      ],
      host.namespace
    )
    const { exitCode, stderr } = await host.exec('sysctl', '-q', '-w', FORWARDING[family])
    if (exitCode !== 0) throw new Error(`cannot turn on forwarding: ${stderr}`)
    await address(container, 'eth0', at(family, n + 1, 2))
    await ipBatch([`route add default via ${at(family, n + 1, 1)}`], container.namespace)
  }
  await ipBatch([
    `link add eth1 ${MTU} netns ${near.namespace} type veth peer name eth1 ${MTU} netns ${beside.namespace}`
  ])
  const pair = [await address(near, 'eth1', at(family, 0, 1)), await address(beside, 'eth1', at(family, 0, 2))] as const
  return {
    name: 'veth',
    paths: {
      hosts: { from: end(near, at(family, 1, 2)), to: end(far, at(family, 2, 2)) },
      local: { from: pair[0], to: pair[1] }
    }
  }
}

/**
 * A VXLAN device that is moved into the container. Its socket stays in the host's namespace, so that packets go from the
 * container's stack straight into the tunnel.
 */
async function routed({ lab, hosts, family }: There): Promise<Form> {
  const [near, , far] = await containers(lab, 'routed')
  const ends: End[] = []
  for (const [n, container] of [near, far].entries()) {
    const device = vxlan(hostAndOther(hosts, n), { vni: 9998, port: 4791 })
    await ipBatch(
      [`link add rvx0 ${device}`, `link set rvx0 netns ${container.namespace} name eth0`],
      hostAndOther(hosts, n)[0].namespace
    )
    ends.push(await address(container, 'eth0', at(family, 3, n + 1)))
  }
  return { name: 'routed', paths: { hosts: path(ends) } }
}

/** The minimal setup with a bridge: a VXLAN device with the other host as its remote, and a veth for each container. */
async function hand({ lab, hosts, family }: There): Promise<Form> {
  const [near, beside, far] = await containers(lab, 'hand')
  for (const [n, { namespace }] of hosts.entries()) {
    const device = vxlan(hostAndOther(hosts, n), { vni: 9999, port: 4790 })
    await ipBatch(
      [
        `link add hbr0 ${MTU} type bridge`,
        `link add hvx0 ${device}`,
        'link set hvx0 master hbr0 up',
        'link set hbr0 up'
      ],
      namespace
    )
  }
  const join = async (container: LabContainer, host: LabHost, n: number): Promise<End> => {
    await ipBatch(
      [
        `link add hve${n} ${MTU} type veth peer name eth0 ${MTU} netns ${container.namespace}`,
        `link set hve${n} master hbr0 up`
      ],
      host.namespace
    )
    return address(container, 'eth0', at(family, 4, n))
  }
  const from = await join(near, hosts[0], 1)
  const local = { from, to: await join(beside, hosts[0], 2) }
  return { name: 'hand', paths: { hosts: { from, to: await join(far, hosts[1], 3) }, local } }
}

/** Two for the first host and one for the other. */
async function containers(lab: Lab, form: string): Promise<[LabContainer, LabContainer, LabContainer]> {
  const [near, beside, far] = await lab.containers([`${form}-near`, `${form}-beside`, `${form}-far`])
  if (near === undefined || beside === undefined || far === undefined) throw new Error('no containers')
  return [near, beside, far]
}

function hostAndOther([first, second]: Hosts, n: number): Hosts {
  return n === 0 ? [first, second] : [second, first]
}

function vxlan([host, other]: Hosts, { vni, port }: VxlanOptions): string {
  return `${MTU} type vxlan id ${vni} local ${host.address} remote ${other.address} dstport ${port}`
}

/** Sets a device up with an address. */
async function address(container: LabContainer, device: string, own: string): Promise<End> {
  const add = `addr add ${prefix(own)} dev ${device} ${NODAD[familyOf(parseIp(own))]}`
  await ipBatch(['link set lo up', `link set ${device} up`, add], container.namespace)
  return end(container, own)
}

/** The n-th address of a network, of which there are ten. */
function at(family: Family, network: number, n: number): string {
  return family === 'ipv4' ? `10.2.${network}.${n}` : `fd00:2:${network}::${n}`
}

function prefix(own: string): string {
  return `${own}/${own.includes(':') ? 64 : 24}`
}

function end({ namespace }: LabContainer, ownAddress: string): End {
  return { namespace, address: ownAddress }
}

function path([from, to]: readonly End[]): Path {
  if (from === undefined || to === undefined) throw new Error('two ends are needed')
  return { from, to }
}
