// One host as the state oracle sees it: what the API lists, what the kernel holds, and how both are named (contract 6.7).

import type { EndpointView, HostView, MemberView, NetworkView, ServiceView } from '#model/views.ts'
import type { LabHost } from './host.ts'

/** One host and its view of the cluster. */
export type OracleView = {
  readonly host: LabHost
  /** Networks with endpoints on this host. */
  readonly here: readonly NetworkView[]
  readonly networks: readonly NetworkView[]
  readonly endpoints: readonly EndpointView[]
  readonly services: readonly ServiceView[]
  readonly hosts: readonly HostView[]
  readonly members: readonly MemberView[]
  readonly kernel: KernelView
}

export type KernelLink = {
  readonly ifname: string
  readonly mtu: number
  readonly address: string
  readonly flags: readonly string[]
  readonly group: string
  readonly master?: string
  readonly ifalias?: string
  readonly inet6_addr_gen_mode?: string
  readonly linkinfo?: {
    readonly info_kind?: string
    readonly info_data?: Readonly<Record<string, unknown>>
    readonly info_slave_data?: Readonly<Record<string, unknown>>
  }
}
export type KernelFdb = { mac: string; ifname: string; dst?: string; master?: string; flags: string[]; state: string }
export type KernelNeighbour = { dst: string; lladdr?: string; dev: string; state: string[] }

export type KernelView = {
  readonly links: readonly KernelLink[]
  readonly fdb: readonly KernelFdb[]
  readonly neighbours: readonly KernelNeighbour[]
}

export const hex = (vni: number): string => vni.toString(16).padStart(6, '0')
export const bridgeOf = (network: { readonly vni: number }): string => `vb${hex(network.vni)}`
export const tunnelOf = (network: { readonly vni: number }): string => `vx${hex(network.vni)}`
export const localOf = (view: OracleView, network: NetworkView): readonly EndpointView[] =>
  view.endpoints.filter(e => e.network === network.name && e.host === view.host.name)

/** The remote endpoints of a network with their VTEP and their host's status, without hosts that have left. */
export function remoteOf(
  view: OracleView,
  network: NetworkView
): readonly { readonly endpoint: EndpointView; readonly vtep: string; readonly status: string }[] {
  return view.endpoints
    .filter(e => e.network === network.name && e.host !== view.host.name)
    .flatMap(endpoint => {
      const host = view.hosts.find(h => h.name === endpoint.host)
      return host === undefined || host.status === 'left' ? [] : [{ endpoint, vtep: host.vtep, status: host.status }]
    })
}

export function compare(want: readonly string[], got: readonly string[]): string[] {
  const [wanted, found] = [new Set(want), new Set(got)]
  return [
    ...[...wanted].filter(text => !found.has(text)).map(text => `missing: ${text}`),
    ...[...found].filter(text => !wanted.has(text)).map(text => `unexpected: ${text}`)
  ]
}
