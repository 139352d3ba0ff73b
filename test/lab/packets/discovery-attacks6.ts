// The attack matrix over IPv6: neighbour discovery, multicast listeners, DHCPv6 and errors, which a container may forge.

import type { Mac } from '#model/mac.ts'
import type { Attack } from './attacks.ts'
import { linkLocal, macBytes, u32 } from './frames.ts'
import {
  addressBytes,
  discovery,
  linkOption,
  message6,
  NEXT,
  OVERRIDE,
  ROUTER,
  SOLICITED,
  SOURCE_LINK,
  TARGET_LINK,
  TYPE
} from './frames6.ts'
import { Craft, DATA_PORT, FOREIGN, GROUP, type Place6, type Target } from './craft6.ts'
import { parseIpv6 } from '#model/ipv6.ts'

const [CLIENT, SERVER] = [546, 547]
const MTU_OPTION = 5
const UNSPECIFIED = Buffer.alloc(16)
const NOTHING = Buffer.alloc(0)
const ALL_ROUTERS = group('ff02::2', '33:33:00:00:00:02')
const LISTENERS = group('ff02::16', '33:33:00:00:00:16')
const DHCP = group('ff02::1:2', '33:33:00:01:00:02')

export function discoveryAttacks6(w: Place6): readonly Attack[] {
  const { me, victim, other, gateway } = w
  const c = new Craft(w)
  const [mySource, myTarget] = [linkOption(SOURCE_LINK, me.mac), linkOption(TARGET_LINK, me.mac)]
  const [itsSource, itsTarget] = [linkOption(SOURCE_LINK, other.mac), linkOption(TARGET_LINK, other.mac)]
  const local = linkLocal(me.mac)
  const answered = SOLICITED | OVERRIDE
  const route = routerAdvertisement(w)
  const redirect = discovery(0, me.address, other.address, myTarget)
  return [
    { kind: "6: solicitation with another's address", frames: c.solicitation(mySource, { from: other.address }) },
    { kind: "6: solicitation with another's MAC", frames: c.solicitation(itsSource) },
    {
      kind: "6: solicitation with its own MAC, then another's",
      frames: c.solicitation(Buffer.concat([mySource, itsSource]))
    },
    { kind: '6: solicitation with another option', frames: c.solicitation(linkOption(MTU_OPTION, me.mac)) },
    { kind: '6: solicitation from ::', frames: c.solicitation(NOTHING, { from: UNSPECIFIED }) },
    { kind: '6: link-local solicitation', frames: c.solicitation(mySource, { from: local }) },
    {
      kind: '6: solicitation in a frame with a foreign source',
      frames: (m, n) =>
        c
          .solicitation(mySource)(m, n)
          .map(frame => resent(frame, FOREIGN))
    },
    {
      kind: "6: advertisement of another's address",
      frames: c.advertisement(other.address, { flags: answered, option: myTarget })
    },
    {
      kind: '6: the same, unsolicited, to all',
      frames: c.advertisement(other.address, { flags: OVERRIDE, option: myTarget, at: GROUP })
    },
    { kind: '6: the same without a MAC', frames: c.advertisement(other.address, { flags: answered }) },
    {
      kind: '6: the same from that address',
      frames: c.advertisement(other.address, { flags: answered, option: myTarget, from: other.address })
    },
    {
      kind: '6: advertisement of the gateway',
      frames: c.advertisement(gateway.address, { flags: ROUTER | OVERRIDE, option: myTarget, at: GROUP })
    },
    {
      kind: "6: advertisement with another's MAC",
      frames: c.advertisement(me.address, { flags: answered, option: itsTarget })
    },
    {
      kind: "6: advertisement with its own MAC, then another's",
      frames: c.advertisement(me.address, { flags: answered, option: Buffer.concat([myTarget, itsTarget]) })
    },
    {
      kind: '6: advertisement with the option of a solicitation',
      frames: c.advertisement(me.address, { flags: answered, option: mySource })
    },
    {
      kind: '6: link-local advertisement',
      frames: c.advertisement(local, { flags: OVERRIDE, option: myTarget, from: local })
    },
    { kind: '6: router advertisement', frames: c.message(TYPE.routerAdvertisement, route, { at: GROUP }) },
    { kind: '6: router advertisement to one', frames: c.message(TYPE.routerAdvertisement, route) },
    {
      kind: '6: link-local router advertisement',
      frames: c.message(TYPE.routerAdvertisement, route, { from: local, at: GROUP })
    },
    {
      kind: '6: router solicitation',
      frames: c.message(TYPE.routerSolicitation, Buffer.concat([u32(0), mySource]), { at: ALL_ROUTERS })
    },
    { kind: '6: redirect', frames: c.message(TYPE.redirect, redirect) },
    { kind: '6: redirect of the gateway', frames: c.message(TYPE.redirect, redirect, { from: gateway.address }) },
    { kind: '6: general query of listeners', frames: listening(c, TYPE.listenerQuery) },
    { kind: '6: link-local query of listeners', frames: listening(c, TYPE.listenerQuery, { from: local }) },
    { kind: '6: report of a listener', frames: listening(c, TYPE.listenerReport2) },
    { kind: '6: report of a listener from ::', frames: listening(c, TYPE.listenerReport2, { from: UNSPECIFIED }) },
    {
      kind: '6: report of a listener without its option',
      frames: c.message(TYPE.listenerReport, Buffer.alloc(20), { at: LISTENERS })
    },
    { kind: '6: listener that leaves', frames: c.message(TYPE.listenerDone, Buffer.alloc(20), { at: LISTENERS }) },
    { kind: '6: node information query', frames: c.message(TYPE.nodeInformation, Buffer.alloc(28)) },
    {
      kind: '6: inverse solicitation',
      frames: c.message(TYPE.inverseSolicitation, Buffer.concat([u32(0), mySource, myTarget]))
    },
    { kind: '6: unknown ICMPv6 type', frames: c.message(200, Buffer.alloc(12)) },
    { kind: '6: DHCPv6 client', frames: c.datagram([CLIENT, SERVER], { at: DHCP }) },
    { kind: '6: DHCPv6 request from another port', frames: c.datagram([DATA_PORT, SERVER], { at: DHCP }) },
    { kind: '6: DHCPv6 answer', frames: c.datagram([SERVER, CLIENT]) },
    { kind: '6: DHCPv6 answer from another port', frames: c.datagram([DATA_PORT, CLIENT]) },
    { kind: '6: DHCPv6 answer to another port', frames: c.datagram([SERVER, DATA_PORT]) },
    {
      kind: '6: packet too big, about a flow of others',
      frames: c.error(TYPE.packetTooBig, { from: victim.address, to: other.address })
    },
    {
      kind: '6: packet too big, about a flow to outside',
      frames: c.error(TYPE.packetTooBig, { from: victim.address, to: addressBytes(parseIpv6('2001:db8::1')) })
    },
    {
      kind: '6: packet too big of the gateway',
      frames: c.error(TYPE.packetTooBig, { from: victim.address, to: other.address }, { from: gateway.address })
    },
    {
      kind: '6: packet too big in fragments',
      frames: c.inFragments(NEXT.icmp6, () =>
        message6(c.own, TYPE.packetTooBig, Buffer.concat([u32(1_280), Buffer.alloc(56)]))
      )
    },
    {
      kind: '6: unreachable, about a flow of others',
      frames: c.error(TYPE.unreachable, { from: victim.address, to: other.address })
    },
    {
      kind: '6: time exceeded, about a flow of others',
      frames: c.error(TYPE.timeExceeded, { from: victim.address, to: other.address })
    }
  ]
}

/** It offers `me` as a router, and a prefix for addresses (RFC 4861 sections 4.2 and 4.6.2). */
export function routerAdvertisement({ me }: Pick<Place6, 'me'>): Buffer {
  const head = [Buffer.from('40080708', 'hex'), u32(0), u32(0), linkOption(SOURCE_LINK, me.mac)]
  const prefix = [Buffer.from([3, 4, 64, 0xc0]), u32(3_600), u32(3_600), u32(0), me.address.subarray(0, 8)]
  return Buffer.concat([...head, ...prefix, Buffer.alloc(8)])
}

/** With the router alert that such a message has (RFC 2710 section 3). */
function listening(c: Craft, type: number, p: { readonly from?: Buffer } = {}): Attack['frames'] {
  const ends = { from: p.from ?? c.own.from, to: LISTENERS.address }
  const alert = Buffer.from([NEXT.icmp6, 0, 5, 2, 0, 0, 1, 0])
  const whole = c.ip(NEXT.hopByHop, Buffer.concat([alert, message6(ends, type, Buffer.alloc(20))]), ends)
  return mark => [c.frame(whole, { to: LISTENERS.mac }, mark)]
}

function resent(frame: Buffer, from: Mac): Buffer {
  return Buffer.concat([frame.subarray(0, 6), macBytes(from), frame.subarray(12)])
}

function group(address: string, mac: string): Target {
  return { address: addressBytes(parseIpv6(address)), mac: mac as Mac }
}
