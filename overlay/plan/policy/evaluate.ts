// Judges packets by the compiled policies, as a program in the kernel does: at each end, one exact lookup and four of longest
// prefixes at most, whatever the policies are. Only the first packet of a flow is judged. Pure.

import type { EndpointKey } from '#model/endpoint.ts'
import { familyOf, isIpv4, type Ip } from '#model/ip.ts'
import { numberOfIpv6 } from '#model/ipv6.ts'
import { DIRECTIONS, POLICY_PROTOCOLS, type Direction, type PolicyProtocol } from '#model/policy.ts'
import {
  NO_RANK,
  NO_RULE,
  STRANGER,
  type CompiledPolicies,
  type RulesetNumber,
  type Side,
  type Verdict,
  type VerdictEntry
} from './compiled.ts'
import { PORT_BITS } from './port-pieces.ts'
import { PrefixTable } from './prefix-table.ts'

/** One end of a packet; `key` if that end is an endpoint. */
export type End = { readonly key: EndpointKey | null; readonly address: Ip }

export type Packet = {
  readonly from: End
  readonly to: End
  /** Null: one that rules do not name. */
  readonly protocol: PolicyProtocol | null
  /** Of the destination; of icmp the type; 0 without protocol. */
  readonly port: number
}

/** Both must allow a packet. */
export type Judgement = Readonly<Record<Direction, Verdict>>

const OPEN: Verdict = { allowed: true, rank: NO_RANK, reason: NO_RULE }

/** Fields of a verdict's key, from the highest bit on: ruleset, direction and side, number, protocol, port. */
const FIELD_BITS = [32, 8, 32, 8, PORT_BITS] as const
const KEY_BITS = FIELD_BITS.reduce((sum, bits) => sum + bits, 0)
/** Those of the key without protocol and port, and without the port. */
const NUMBER_BITS = 72
const PROTOCOL_BITS = 80
/** Those before the address in the key of a block. */
const RULESET_BITS = 40

type Question = {
  readonly ruleset: RulesetNumber
  readonly direction: Direction
  readonly protocol: PolicyProtocol | null
  readonly port: number
}

/** The tables, filled once. */
export class PolicyTables {
  readonly #compiled: CompiledPolicies
  readonly #blocks = {
    ipv4: new PrefixTable<number>(RULESET_BITS + 32),
    ipv6: new PrefixTable<number>(RULESET_BITS + 128)
  }
  readonly #verdicts = new PrefixTable<Verdict>(KEY_BITS)

  constructor(compiled: CompiledPolicies) {
    this.#compiled = compiled
    for (const { prefix, block, ...where } of compiled.blocks)
      this.#blocks[familyOf(prefix.base)].add(blockKey(where, prefix.base), RULESET_BITS + prefix.prefixLength, block)
    for (const { allowed, rank, reason, side, ...key } of compiled.verdicts)
      this.#verdicts.add(verdictKey(key, side), lengthOf(key), { allowed, rank, reason })
  }

  judge({ from, to, protocol, port }: Packet): Judgement {
    const at = ({ key }: End, direction: Direction, peer: Ip): Verdict => {
      const ruleset = key === null ? undefined : this.#compiled.subjects.get(key)
      return ruleset === undefined ? OPEN : this.#judgePeer(peer, { ruleset, direction, protocol, port })
    }
    return { egress: at(from, 'egress', to.address), ingress: at(to, 'ingress', from.address) }
  }

  #judgePeer(peer: Ip, question: Question): Verdict {
    const identity = this.#compiled.members.get(peer) ?? STRANGER
    const byIdentity = this.#find(question, { of: 'identity', number: identity }) ?? this.#ofStranger(question)
    const block = this.#blocks[familyOf(peer)].find(blockKey(question, peer))
    const byBlock = block === undefined ? undefined : this.#find(question, { of: 'block', number: block })
    return byBlock !== undefined && byBlock.rank > byIdentity.rank ? byBlock : byIdentity
  }

  #ofStranger(question: Question): Verdict {
    const verdict = this.#find(question, { of: 'identity', number: STRANGER })
    if (verdict === undefined) throw new Error(`ruleset ${question.ruleset} has no verdict for strangers`)
    return verdict
  }

  #find(question: Question, side: Side): Verdict | undefined {
    return this.#verdicts.find(verdictKey(question, side))
  }
}

function blockKey({ ruleset, direction }: Pick<Question, 'ruleset' | 'direction'>, address: Ip): bigint {
  const head = (BigInt(ruleset) << 8n) | BigInt(DIRECTIONS.indexOf(direction))
  return isIpv4(address) ? (head << 32n) | BigInt(address) : (head << 128n) | numberOfIpv6(address)
}

function verdictKey({ ruleset, direction, protocol, port }: Question, side: Side): bigint {
  const where = DIRECTIONS.indexOf(direction) * 2 + (side.of === 'block' ? 1 : 0)
  // 0 is none of the protocols that rules name.
  const known = protocol === null ? 0 : POLICY_PROTOCOLS.indexOf(protocol) + 1
  const fields = [ruleset, where, side.number, known, port]
  return fields.reduce((key, field, at) => (key << BigInt(FIELD_BITS[at] ?? 0)) | BigInt(field), 0n)
}

function lengthOf({ protocol, portBits }: Pick<VerdictEntry, 'protocol' | 'portBits'>): number {
  return protocol === null ? NUMBER_BITS : PROTOCOL_BITS + portBits
}
