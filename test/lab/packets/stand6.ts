// The parties of the attack matrix over IPv6: one container of red, which has both families, forges frames; others of red and
// blue run on its own host and on another. Networks of one family alone have two containers each.

import { addressesOf, gatewaysOf } from '#model/addresses.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { isIpv4, parseSubnet, type Ip } from '#model/ip.ts'
import { parseIpv6, type Ipv6 } from '#model/ipv6.ts'
import type { Vni } from '#model/ids.ts'
import { macOf, type Mac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import { bridgeMac } from '#overlay/plan/network/names.ts'
import { makeNetwork } from '../../overlay/fixtures.ts'
import { containerAttacks6, legitimate6, plainAttacks, sixAttacks } from './attacks6.ts'
import type { Attack } from './attacks.ts'
import { ordinary6, type Party6, type Target } from './craft6.ts'
import { addressBytes } from './frames6.ts'
import type { Sender } from './raw-socket.ts'
import { HOST_PORT, type AttackStand, type Control } from './stand.ts'

const subnet6 = parseSubnet('fd00:1::/64')
/** Without routers, whose filters are others. */
const NO_ROUTER = { egress: false } as const
const red = makeNetwork('red', 0xabc, { ...NO_ROUTER, subnet6 })
const blue = makeNetwork('blue', 0xdef, { ...NO_ROUTER, subnet6 })
const plain = makeNetwork('plain', 0x111, NO_ROUTER)
const six = makeNetwork('six', 0x222, {
  ...NO_ROUTER,
  subnet: parseSubnet('fd00:6::/64'),
  gateway: parseIpv6('fd00:6::1')
})

export const NETWORKS6: readonly Network[] = [red, blue, plain, six]

export const PLACES6 = {
  me: [red, 1, '10.1.0.2'],
  near: [red, 1, '10.1.0.3'],
  far: [red, 2, '10.1.0.4'],
  tenant: [blue, 1, '10.1.0.5'],
  'far-tenant': [blue, 2, '10.1.0.6'],
  plain: [plain, 1, '10.1.0.2'],
  'far-plain': [plain, 2, '10.1.0.3'],
  six: [six, 1, 'fd00:6::2'],
  'far-six': [six, 2, 'fd00:6::3']
} as const

export type Name6 = keyof typeof PLACES6

/** Of the host of `me`. It has to be added to its underlay's device. */
export const HOST_ADDRESS = parseIpv6('fd00:ffff::1')

/** The attacks and the legitimate traffic of these parties, on whatever plane. */
export function attackStand6(p: {
  readonly party: (name: Name6) => Party6
  readonly sender: (name: Name6) => Sender
  readonly gateway: Target
  readonly bridge: Mac
  readonly host: Ipv6
  readonly foreignVni: Vni
}): AttackStand {
  const { party, sender, gateway, bridge, host, foreignVni: vni } = p
  const by = (name: Name6, attacks: readonly Attack[]): AttackStand['attacks'] =>
    attacks.map(attack => ({ sender: sender(name), attack }))
  const control = (from: Name6, name: Name6, frames: Attack['frames']): Control => ({
    name,
    sender: sender(from),
    frames
  })
  const ordinary = (from: Name6, to: Name6): Control => control(from, to, ordinary6(party(from), party(to)))
  const more = (from: Name6, to: Name6): Control[] =>
    Object.values(legitimate6(party(from), party(to))).map(frames => control(from, to, frames))
  const local = containerAttacks6({
    me: party('me'),
    victim: party('near'),
    other: party('far'),
    gateway,
    bridge,
    host: { address: addressBytes(host), port: HOST_PORT },
    foreign: { vni, victim: party('tenant') }
  })
  return {
    attacks: [
      ...by('me', local),
      ...by('plain', plainAttacks(party('plain'), party('far-plain'))),
      ...by('six', sixAttacks(party('six'), party('far-six')))
    ],
    controls: [
      ordinary('me', 'near'),
      ordinary('me', 'far'),
      ordinary('far', 'near'),
      ordinary('tenant', 'far-tenant'),
      ordinary('six', 'far-six'),
      ...more('me', 'near'),
      ...more('me', 'far')
    ]
  }
}

/** The stand of these networks. */
export function makeStand6(p: {
  readonly endpoint: (name: Name6) => Endpoint
  readonly sender: (name: Name6) => Sender
}): AttackStand {
  return attackStand6({
    party: name => partyOf6(PLACES6[name][0], p.endpoint(name)),
    sender: p.sender,
    gateway: { mac: macOf(red.vni, red.gateway), address: addressBytes(ipv6Of(gatewaysOf(red))) },
    bridge: bridgeMac(red.vni),
    host: HOST_ADDRESS,
    foreignVni: blue.vni
  })
}

/** With the address that its container would have if its network had IPv6, too. */
function partyOf6(network: Network, endpoint: Endpoint): Party6 {
  const { mac, address } = endpoint
  if (!isIpv4(address)) return { mac, address: addressBytes(address) }
  const both = addressesOf({ subnet6, ...network }, endpoint)
  return { mac, address: addressBytes(ipv6Of(both)), address4: address }
}

function ipv6Of(addresses: readonly Ip[]): Ipv6 {
  const found = addresses.find(address => !isIpv4(address))
  if (found === undefined) throw new Error('no IPv6 address')
  return found
}
