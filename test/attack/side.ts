// The address family that a tenant attacks by: who its containers, its host and the outside are there.

import { isIpv4 } from '#model/ip.ts'
import { must } from '../lab/kernel.ts'
import { SERVER, SERVER_V6 } from '../lab/outside.ts'
import type { Name, World } from './world.ts'

export type Side = {
  readonly label: '' | ', IPv6'
  readonly me: Name
  readonly near: Name
  readonly far: Name
  readonly tenant: Name
  readonly farTenant: Name
  readonly probed: Name
  readonly address: (world: World, name: Name) => string
  readonly gateway: (world: World, name: Name) => string
  /** Of hosts, on the underlay. */
  readonly host: (world: World, n: number) => string
  readonly server: string
  /** A path's, which a host believes a peer. */
  readonly smallMtu: number
  /** Of the outside's routes: nobody has it, and nothing answers. */
  readonly nobody: string
  /** A network of another program on the host. */
  readonly docker: {
    readonly gateway: string
    readonly address: string
    readonly second: string
    readonly prefix: number
  }
  /** Gives bridged packets to the host's own rules. */
  readonly bridgeSwitch: string
  /** As kube-proxy does for a ClusterIP, but for addresses that containers and docker have. */
  readonly translated: (addresses: readonly string[]) => string
  /** For hostAccess: one of its own, one that a network has, and a part of that. */
  readonly subnets: { readonly apart: string; readonly same: string; readonly inside: string }
  /** Lets a bridge of another program forward, as Docker does for all devices at once. */
  readonly forward: (namespace: string, bridge: string) => Promise<unknown>
}

export const IPV4: Side = {
  label: '',
  me: 'me',
  near: 'near',
  far: 'far',
  tenant: 'tenant',
  farTenant: 'far-tenant',
  probed: 'probed',
  address: (world, name) => world.address(name),
  gateway: (world, name) => world.endpoint(name).gateway,
  host: (world, n) => world.host(n).address,
  server: SERVER,
  smallMtu: 600,
  nobody: '203.0.113.99',
  docker: { gateway: '172.17.0.1', address: '172.17.0.2', second: '172.17.0.3', prefix: 16 },
  bridgeSwitch: 'net.bridge.bridge-nf-call-iptables',
  translated: addresses => `icmp type echo-request ip daddr { ${addresses.join(', ')} } dnat ip to 10.1.0.77`,
  subnets: { apart: '10.33.0.0/24', same: '10.3.0.0/24', inside: '10.3.0.128/25' },
  // Without it the answers would be dropped, whatever the rules say.
  forward: (namespace, bridge) =>
    must('ip', ['netns', 'exec', namespace, 'sysctl', '-qw', `net.ipv4.conf.${bridge}.forwarding=1`])
}

export const IPV6: Side = {
  label: ', IPv6',
  me: 'me6',
  near: 'near6',
  far: 'far6',
  tenant: 'tenant6',
  farTenant: 'far-tenant6',
  probed: 'probed6',
  address: (world, name) => world.address6(name),
  gateway: (world, name) => world.gateway6(name),
  host: (world, n) => {
    const { vtep, address } = world.host(n)
    return isIpv4(vtep) ? `2001:db8:a::${n}` : address
  },
  server: SERVER_V6,
  smallMtu: 1_400,
  nobody: '2001:db8:cb::99',
  docker: { gateway: 'fd00:d0c::1', address: 'fd00:d0c::2', second: 'fd00:d0c::3', prefix: 64 },
  bridgeSwitch: 'net.bridge.bridge-nf-call-ip6tables',
  translated: addresses => `icmpv6 type echo-request ip6 daddr { ${addresses.join(', ')} } dnat ip6 to fd00:6::77`,
  subnets: { apart: 'fd00:33::/64', same: 'fd00:63::/64', inside: 'fd00:63::/65' },
  // The host forwards IPv6 on all devices already.
  forward: () => Promise.resolve()
}
