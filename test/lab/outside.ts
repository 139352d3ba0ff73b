// The world outside of a lab: every host has a second uplink, eth1, to a network with a server.

import { families } from './families.ts'
import { ip } from './kernel.ts'
import type { Lab } from './lab.ts'
import type { LabContainer } from './container.ts'
import { waitFor } from './wait.ts'

export const SERVER = '203.0.113.10'
/** The hosts' addresses on that network are 198.51.100.<n>. */
export const OUTSIDE_GATEWAY = '198.51.100.254'
export const SERVER_V6 = '2001:db8:cb::10'
/** The hosts' addresses are 2001:db8:51::<n> there, and 2001:db8:a::<n> on the underlay. */
export const OUTSIDE_GATEWAY_V6 = '2001:db8:51::fe'
/** The server's addresses in the families of a stage's networks. */
export const SERVERS = { ipv4: [SERVER], ipv6: [SERVER_V6], both: [SERVER, SERVER_V6] }[families]

export async function addOutside(lab: Lab): Promise<LabContainer> {
  const outside = await lab.container('outside')
  await ip(outside.namespace, 'link add br0 type bridge')
  await ip(outside.namespace, `addr add ${OUTSIDE_GATEWAY}/24 dev br0`)
  await ip(outside.namespace, `addr add ${SERVER}/32 dev lo`)
  for (const device of ['lo', 'br0']) await ip(outside.namespace, `link set ${device} up`)
  for (const [i, { namespace }] of lab.hosts.entries()) {
    await ip(namespace, `link add eth1 type veth peer name p${i} netns ${outside.namespace}`)
    await ip(outside.namespace, `link set p${i} master br0 up`)
    await ip(namespace, `addr add 198.51.100.${i + 1}/24 dev eth1`)
    await ip(namespace, 'link set eth1 up')
    await ip(namespace, `route add default via ${OUTSIDE_GATEWAY}`)
  }
  if (families !== 'ipv4') await addOutsideV6(lab, outside)
  return outside
}

/** The same in IPv6, for a lab that has it in IPv4. */
export async function addOutsideV6(lab: Lab, { namespace: outside }: LabContainer): Promise<void> {
  await ip(outside, `addr add ${OUTSIDE_GATEWAY_V6}/64 dev br0 nodad`)
  await ip(outside, `addr add ${SERVER_V6}/128 dev lo nodad`)
  for (const [i, { namespace }] of lab.hosts.entries()) {
    await ip(namespace, `addr add 2001:db8:a::${i + 1}/64 dev eth0 nodad`)
    await ip(namespace, `addr add 2001:db8:51::${i + 1}/64 dev eth1 nodad`)
    await ip(namespace, `-6 route add default via ${OUTSIDE_GATEWAY_V6}`)
  }
  await ip(lab.underlay, 'addr add 2001:db8:a::c8/64 dev br0 nodad')
  // Neighbours are asked from link-local addresses, which are checked for duplicates at first.
  for (const namespace of [outside, ...lab.hosts.map(host => host.namespace)]) {
    await waitFor('IPv6 can be used', async () => (await ip(namespace, '-6 addr show tentative')) === '')
  }
}
