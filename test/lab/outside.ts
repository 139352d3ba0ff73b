// The world outside of a lab: every host has a second uplink, eth1, to a network with a server.

import { ip } from './kernel.ts'
import type { Lab } from './lab.ts'
import type { LabContainer } from './container.ts'

export const SERVER = '203.0.113.10'
/** The hosts' addresses on that network are 198.51.100.<n>. */
export const OUTSIDE_GATEWAY = '198.51.100.254'

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
  return outside
}
