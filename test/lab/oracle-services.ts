// What the programs must hold of services: expected from the API's listings, and read from their tables (docs/datapath.md). Which slots a
// backend has is Maglev's business; that each backend is there with its MAC, and nothing else, is checked here.

import { parseIp, subnetContains, type Subnet } from '#model/ip.ts'
import type { EndpointView, NetworkView, ServiceView } from '#model/views.ts'
import { compare, type OracleView } from './oracle-view.ts'

/** What the addresses of services resolve to. */
const SERVICE_MAC = '0e:76:78:00:00:01'
const NUMBERS = { tcp: 6, udp: 17, sctp: 132 } as const

type ServiceRow = { readonly key: string; readonly part: number; readonly slots: number }
type BackendRow = { readonly key: string; readonly backend: string }

/** The services with addresses in a network. */
export function servicesIn(view: OracleView, network: NetworkView): readonly ServiceView[] {
  return view.services.filter(service => service.network === network.name && service.addresses.length > 0)
}

/** 2: the network has services; 4: one of them has an address outside of it. A port may keep them as long as it has flows to one. */
export function serviceFlags(view: OracleView, network: NetworkView): number {
  const services = servicesIn(view, network)
  const isBeyond = services.some(({ addresses }) => addresses.some(address => !isInside(network, address)))
  return (services.length > 0 ? 2 : 0) + (isBeyond ? 4 : 0)
}

/** The addresses inside of the networks, which containers ask for as neighbours. */
export function serviceNeighbours(view: OracleView): string[] {
  return view.here.flatMap(network =>
    servicesIn(view, network)
      .flatMap(({ addresses }) => addresses)
      .filter(address => isInside(network, address))
      .map(address => `${network.vni} ${address} is ${SERVICE_MAC}`)
  )
}

export function checkServices(
  view: OracleView,
  found: { readonly services: readonly ServiceRow[]; readonly backends: readonly BackendRow[] }
): string[] {
  const wanted = view.here.flatMap(network =>
    servicesIn(view, network).flatMap(service =>
      service.addresses.flatMap(address =>
        service.ports.map(({ protocol, port, targetPort }) => ({
          key: serviceKey({ vni: network.vni, protocol: NUMBERS[protocol], address, port }),
          backends: backendsOf(view, { service, network, address, targetPort })
        }))
      )
    )
  )
  return [
    ...compare(
      wanted.map(({ key, backends }) => `service ${key}${backends.length === 0 ? ' without backends' : ''}`),
      found.services
        .filter(({ part }) => part === 0)
        .map(({ key, slots }) => `service ${key}${slots === 0 ? ' without backends' : ''}`)
    ),
    ...compare(
      wanted.flatMap(({ key, backends }) => backends.map(backend => `${key} to ${backend}`)),
      found.backends.map(({ key, backend }) => `${key} to ${backend}`)
    )
  ]
}

export function serviceKey(p: {
  readonly vni: number
  readonly protocol: number
  readonly address: string
  readonly port: number
}): string {
  return `${p.vni} ${p.protocol} ${p.address} ${p.port}`
}

/** Each with its port and MAC. */
function backendsOf(
  view: OracleView,
  p: {
    readonly service: ServiceView
    readonly network: NetworkView
    readonly address: string
    readonly targetPort: number
  }
): string[] {
  const isOfFamily = (other: string): boolean => other.includes(':') === p.address.includes(':')
  const endpoints = view.endpoints.filter(({ network }) => network === p.network.name)
  const { select, backends } = p.service
  if (select !== null) {
    return endpoints
      .filter(({ labels }) => select.every(term => holds(term, labels)))
      .flatMap(e =>
        addressesOf(e)
          .filter(isOfFamily)
          .map(own => `${own} ${p.targetPort} ${e.mac}`)
      )
  }
  return (backends ?? []).flatMap(text => {
    const [, address = text, port] =
      /^\[?([^\]]*?)\]?:([0-9]+)$/.exec(text.includes('.') || text.startsWith('[') ? text : '') ?? []
    const owner = endpoints.find(e => addressesOf(e).includes(address))
    return owner === undefined || !isOfFamily(address) ? [] : [`${address} ${port ?? p.targetPort} ${owner.mac}`]
  })
}

function holds(term: string, labels: Readonly<Record<string, string>>): boolean {
  const [key = '', ...value] = term.split('=')
  return Object.hasOwn(labels, key) && (!term.includes('=') || labels[key] === value.join('='))
}

function addressesOf({ addresses }: EndpointView): string[] {
  return addresses.map(address => address.split('/')[0] ?? '')
}

function isInside({ subnets }: NetworkView, address: string): boolean {
  return subnets.some(text => {
    const [base = '', length = ''] = text.split('/')
    const subnet: Subnet = { base: parseIp(base), prefixLength: Number(length) }
    return subnetContains(subnet, parseIp(address))
  })
}
