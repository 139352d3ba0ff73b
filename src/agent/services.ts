// What a service's address must not be, and the state does not know: the address of a member. Pure.

import { subnetsOf } from '#model/addresses.ts'
import { VxmeshError } from '#model/errors.ts'
import { formatIp, subnetContains, type Ip } from '#model/ip.ts'
import type { Member } from '#model/member.ts'
import type { Network } from '#model/network.ts'

/** @throws ERR_ADDRESS_IN_USE for an address outside of the network's subnets that a member has */
export function refuseMembers(
  addresses: readonly Ip[],
  { network, members }: { readonly network: Network; readonly members: Iterable<Pick<Member, 'name' | 'address'>> }
): void {
  const outside = addresses.filter(address => !subnetsOf(network).some(subnet => subnetContains(subnet, address)))
  if (outside.length === 0) return
  for (const { name, address } of members) {
    if (!outside.includes(address)) continue
    const what = `address: ${formatIp(address)} belongs to host ${name}`
    throw new VxmeshError('ERR_ADDRESS_IN_USE', what, { field: 'address' })
  }
}
