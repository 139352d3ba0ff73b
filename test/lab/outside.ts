// The world outside of a lab: every host has a second uplink, eth1, to a network with a server.

import type { Lab, LabContainer } from '../namespace/overlay-lab.ts'

export const SERVER = '203.0.113.10'
/** The hosts' addresses on that network are 198.51.100.<n>. */
export const OUTSIDE_GATEWAY = '198.51.100.254'

export async function addOutside(lab: Lab): Promise<LabContainer> {
  const outside = await lab.container('outside')
  await lab.ip(outside.name, 'link add br0 type bridge')
  await lab.ip(outside.name, `addr add ${OUTSIDE_GATEWAY}/24 dev br0`)
  await lab.ip(outside.name, `addr add ${SERVER}/32 dev lo`)
  for (const device of ['lo', 'br0']) await lab.ip(outside.name, `link set ${device} up`)
  for (const [i, { name }] of lab.hosts.entries()) {
    await lab.ip(name, `link add eth1 type veth peer name p${i} netns ${outside.name}`)
    await lab.ip(outside.name, `link set p${i} master br0 up`)
    await lab.ip(name, `addr add 198.51.100.${i + 1}/24 dev eth1`)
    await lab.ip(name, 'link set eth1 up')
    await lab.ip(name, `route add default via ${OUTSIDE_GATEWAY}`)
  }
  return outside
}
