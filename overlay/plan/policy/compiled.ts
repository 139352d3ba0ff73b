// The policies of one network as every driver is given them (docs/adr/0067): exact and longest-prefix tables alone, which a program
// in the kernel looks up in a bounded number of steps. Their size follows from what policies tell apart, not from pairs of
// endpoints. Pure.

import type { EndpointKey } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import type { PolicyName } from '#model/ids.ts'
import type { Ip, Subnet } from '#model/ip.ts'
import type { Labels } from '#model/labels.ts'
import type { Direction, Policy, PolicyProtocol } from '#model/policy.ts'

/** What the compiler reads of an endpoint. */
export type PolicyEndpoint = {
  readonly key: EndpointKey
  readonly labels: Labels
  /** One or two. */
  readonly addresses: readonly Ip[]
}

/** All endpoints that meet the same selectors of the policies' peers. 32 bits. */
export type Identity = number
/** Of an endpoint that meets none, and of every other address. */
export const STRANGER: Identity = 0

/** Endpoints that the same policies select have the same rules. 32 bits. */
export type RulesetNumber = number

/** All addresses that are in the same CIDRs of a ruleset in one direction. Counted from 1. */
export type Block = number

export type CompiledPolicies = {
  /** By address, of the endpoints that are no STRANGER. */
  readonly members: ReadonlyMap<Ip, Identity>
  /** Of the endpoints that were asked for. One that is not here is open in both directions. */
  readonly subjects: ReadonlyMap<EndpointKey, RulesetNumber>
  readonly rulesets: ReadonlyMap<RulesetNumber, Ruleset>
  /** By ruleset, direction, and longest prefix of the peer's address. */
  readonly blocks: readonly BlockEntry[]
  /** By longest prefix of the fields of the key in their order. */
  readonly verdicts: readonly VerdictEntry[]
  /** By the number in verdicts. */
  readonly reasons: ReadonlyMap<number, Reason>
}

/** For explanations. */
export type Ruleset = { readonly policies: readonly Policy[] }

export type BlockEntry = {
  readonly ruleset: RulesetNumber
  readonly direction: Direction
  readonly prefix: Subnet
  readonly block: Block
}

/** Whose verdicts they are: those of a peer's labels and of rules for anyone, or those of the CIDRs that it is in. */
export type Side = { readonly of: 'identity' | 'block'; readonly number: number }

/**
 * With protocol null, for all of them; with portBits 0, for all ports: the highest `portBits` of `port` count.
 * An identity without entries in a ruleset and direction is judged as a STRANGER is; what has no entry in a block, not by it.
 */
export type VerdictEntry = {
  readonly ruleset: RulesetNumber
  readonly direction: Direction
  readonly side: Side
  readonly protocol: PolicyProtocol | null
  readonly port: number
  readonly portBits: number
} & Verdict

export type Verdict = {
  readonly allowed: boolean
  /** Of the verdicts of an identity and of a block, the one of the higher rank decides. NO_RANK to 2,001. */
  readonly rank: number
  /** The rule that decided; NO_RULE: none holds. */
  readonly reason: number
}

/** Of what holds if no rule does. */
export const NO_RANK = -1
export const NO_RULE = 0

export type Reason = {
  readonly policy: PolicyName
  /** From 0. */
  readonly rule: number
}

/** Of a network, on one host. An entry takes about 100 bytes in the kernel, 200 at worst. */
export const MAX_VERDICTS = 65_536
export const MAX_BLOCK_ENTRIES = 32_768
/** Of a network. */
export const MAX_IDENTITIES = 16_384

export function tooMany(what: string, { count, max }: { readonly count: number; readonly max: number }): VxmeshError {
  const message = `policies: they need ${count} ${what}, and ${max} are the most of a network`
  return new VxmeshError('ERR_LIMIT_REACHED', message, { field: 'policies' })
}
