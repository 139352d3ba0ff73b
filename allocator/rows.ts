// Builds rows from commands. Fields are written out, in the order in which rows are shown: a row built by spreading takes
// 24 bytes more, and there may be a million.

import type { CommandOf } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { NetworkName, PeerId, Vni } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'

/** @param chosen values that the state machine allocated */
export function networkRow(
  command: CommandOf<'network-create'>,
  chosen: { readonly vni: Vni; readonly gateway: Ip }
): Network {
  const { name, subnet, egressRate, mtu, egress, hostAccess, requestId } = command
  const { vni, gateway } = chosen
  const row = { name, vni, subnet, gateway, egressRate, mtu, egress, hostAccess }
  return requestId === undefined ? row : { ...row, requestId }
}

/**
 * @param chosen values that the state machine allocated, and the names of network and host as their rows have them: a row that kept the
 * command's own copies would take 150 bytes more
 */
export function endpointRow(
  command: CommandOf<'endpoint-attach'>,
  chosen: {
    readonly network: NetworkName
    readonly vni: Vni
    readonly host: PeerId
    readonly address: Ip
    readonly mac: Mac
  }
): Endpoint {
  const { containerId, ifname, name, ingressRate, egressRate, delayUs, requestId } = command
  const { network, vni, host, address, mac } = chosen
  const row = { network, vni, containerId, ifname, name, host, address, mac, ingressRate, egressRate, delayUs }
  return requestId === undefined ? row : { ...row, requestId }
}
