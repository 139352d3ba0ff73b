// Networks, endpoints and hosts for the overlay's tests.

import type { Endpoint } from '#model/endpoint.ts'
import type { Host } from '#model/host.ts'
import { parseContainerId, parseHostName, parseIfName, parseNetworkName, parsePeerId, parseVni } from '#model/ids.ts'
import type { NetworkName, PeerId } from '#model/ids.ts'
import { parseIp, parseSubnet, type Ip } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { macOf } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import type { UnderlayPeers } from '#overlay/plan/underlay/peers.ts'

const DIGITS = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'

/** A well-formed peer id for a small number. */
export function peer(index: number): PeerId {
  return parsePeerId(`12D3KooW${'x'.repeat(42)}${DIGITS[Math.floor(index / 50)] ?? '1'}${DIGITS[index % 50] ?? '1'}`)
}

export function makeHost(index: number, vtep: Ip = parseIpv4(`192.0.2.${index}`)): Host {
  return { name: parseHostName(`h${index}`), peerId: peer(index), vtep, role: 'server', bootId: 'b', version: '0' }
}

/** A single peer, with a tunnel address. */
export function peerAt(vtep: string): UnderlayPeers {
  return new Map([[peer(2), { vtep: parseIpv4(vtep), reach: 'all' }]])
}

export function makeNetwork(name: string, vni: number, change: Partial<Network> = {}): Network {
  return {
    name: parseNetworkName(name),
    vni: parseVni(vni),
    subnet: parseSubnet('10.1.0.0/16'),
    gateway: parseIpv4('10.1.0.1'),
    egressRate: 0,
    mtu: 0,
    egress: true,
    hostAccess: false,
    ...change
  }
}

export function makeEndpoint(
  network: Network,
  p: { container: string; host: number; address: string; ifname?: string }
): Endpoint {
  const address = parseIp(p.address)
  return {
    network: network.name,
    vni: network.vni,
    containerId: parseContainerId(p.container),
    ifname: parseIfName(p.ifname ?? 'eth0'),
    name: '',
    host: peer(p.host),
    address,
    mac: macOf(network.vni, address),
    ingressRate: 0,
    egressRate: 0,
    delayUs: 0
  }
}

export function byNetwork(endpoints: readonly Endpoint[]): Map<NetworkName, Endpoint[]> {
  const map = new Map<NetworkName, Endpoint[]>()
  for (const endpoint of endpoints) map.set(endpoint.network, [...(map.get(endpoint.network) ?? []), endpoint])
  return map
}
