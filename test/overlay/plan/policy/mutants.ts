// Mutants of the policies' compiler and evaluator that the comparison with their meaning must detect.

import type { SourceMutant } from '../../../mutant-loader.ts'

const IDENTITIES = 'overlay/plan/policy/identities.ts'
const BLOCKS = 'overlay/plan/policy/blocks.ts'
const CLASSES = 'overlay/plan/policy/label-classes.ts'
const VERDICTS = 'overlay/plan/policy/verdicts.ts'
const PIECES = 'overlay/plan/policy/port-pieces.ts'
const COMPILE = 'overlay/plan/policy/compile.ts'
const EVALUATE = 'overlay/plan/policy/evaluate.ts'
const REQUIREMENT = 'src/model/requirement.ts'

export const POLICY_MUTANTS: readonly SourceMutant[] = [
  {
    name: 'empty-value-is-no-label',
    bug: 'a label without a value is taken for one that there is not, in the class of an endpoint',
    file: CLASSES,
    find: "labels[key] : ' '",
    replace: "labels[key] : ''"
  },
  {
    name: 'class-by-first-key',
    bug: 'endpoints that differ in another label than the first are one class',
    file: CLASSES,
    find: 'each.map(({ key }) => key)))]',
    replace: 'each.map(({ key }) => key)))].slice(0, 1)'
  },
  {
    name: 'endpoint-without-cidr',
    bug: 'no CIDR holds for an endpoint that meets a selector',
    file: EVALUATE,
    find: 'const block = this',
    replace: 'const block = identity !== STRANGER ? undefined : this'
  },
  {
    name: 'exception-of-another',
    bug: 'an exception of one CIDR is one of all',
    file: BLOCKS,
    find: 'filter(text => !excepted.has(text))',
    replace: 'filter(() => excepted.size === 0)'
  },
  {
    name: 'exception-ignored',
    bug: 'a CIDR holds for its exceptions, too',
    file: BLOCKS,
    find: '.filter(text => !excepted.has(text))',
    replace: ''
  },
  {
    name: 'cidr-in-longer-prefix',
    bug: 'a CIDR does not hold in a longer prefix that another rule names',
    file: BLOCKS,
    find: 'around.flatMap(({ holds }) => holds)',
    replace: 'around.filter(each => each.prefix === prefix).flatMap(({ holds }) => holds)'
  },
  {
    name: 'blocks-of-first-peer',
    bug: 'blocks that are in the same number of CIDRs are one',
    file: BLOCKS,
    find: "[...set].sort().join('\\n')",
    replace: '`${set.size}`'
  },
  {
    name: 'exception-by-the-same-prefix',
    bug: 'an exception does not hold in a longer prefix inside it',
    file: BLOCKS,
    find: 'new Set(around.flatMap(each => each.excepted))',
    replace: 'new Set(around.filter(each => each.prefix === prefix).flatMap(each => each.excepted))'
  },
  {
    name: 'only-the-same-prefix-around',
    bug: 'no shorter prefix is around another',
    file: BLOCKS,
    find: 'prefixLength > longest',
    replace: 'prefixLength !== longest'
  },
  {
    name: 'first-address-only',
    bug: 'only one address of an endpoint has its identity',
    file: IDENTITIES,
    find: 'addresses.map(address => [',
    replace: 'addresses.slice(0, 1).map(address => ['
  },
  {
    name: 'every-peer-must-hold',
    bug: 'an endpoint must meet all selectors of a rule',
    file: VERDICTS,
    find: 'thoseOf(bySelector, met)',
    replace: 'thoseOf(bySelector, met).filter(({ selectors }) => selectors.every(text => met.has(text)))'
  },
  {
    name: 'strangers-left-out',
    bug: 'an identity of its own has no rules that are for anyone',
    file: VERDICTS,
    find: '[...forAnyone, ...own]',
    replace: '(own.length > 0 ? own : forAnyone)'
  },
  {
    name: 'allow-before-deny',
    bug: 'of equal priority, an allow decides',
    file: VERDICTS,
    find: '(allowed ? 0 : 1)',
    replace: '(allowed ? 1 : 0)'
  },
  {
    name: 'deny-always-decides',
    bug: 'a deny decides whatever the priority of an allow is',
    file: VERDICTS,
    find: '(allowed ? 0 : 1)',
    replace: '(allowed ? 0 : 10_000)'
  },
  {
    name: 'lowest-priority',
    bug: 'the lowest priority decides',
    file: VERDICTS,
    find: 'a.verdict.rank > b.verdict.rank',
    replace: 'a.verdict.rank < b.verdict.rank'
  },
  {
    name: 'general-rule-forgotten-at-ports',
    bug: 'where a rule names ports, rules without ports no longer hold',
    file: VERDICTS,
    find: 'ports.length === 0 || ports.some(range => holds',
    replace: 'ports.some(range => holds'
  },
  {
    name: 'other-protocol',
    bug: 'the ports of one protocol are those of all',
    file: VERDICTS,
    find: 'range.protocol === protocol && range.first <= port',
    replace: 'range.first <= port'
  },
  {
    name: 'range-without-its-end',
    bug: 'the last port of a range is not in it',
    file: VERDICTS,
    find: 'port <= range.last',
    replace: 'port < range.last'
  },
  {
    name: 'pieces-merged-by-verdict-of-the-first',
    bug: 'a piece that is like the one before it replaces it',
    file: VERDICTS,
    find: 'first: before.first }',
    replace: 'first: piece.first }'
  },
  {
    name: 'piece-after-range-forgotten',
    bug: 'what follows a range is decided as the range is',
    file: PIECES,
    find: 'starts.add(last + 1)',
    replace: 'starts.add(last)'
  },
  {
    name: 'unaligned-prefix',
    bug: 'a range is covered by prefixes that do not begin where they should',
    file: PIECES,
    find: 'port % (size * 2) === 0 && ',
    replace: ''
  },
  {
    name: 'prefix-too-long',
    bug: 'the last prefix of a range goes past its end',
    file: PIECES,
    find: 'port + size * 2 - 1 <= last',
    replace: 'port + size * 2 - 2 <= last'
  },
  {
    name: 'closed-both-ways',
    bug: 'a policy that closes one direction closes both',
    file: COMPILE,
    find: 'closes.includes(direction)',
    replace: 'closes.length > 0'
  },
  {
    name: 'closed-by-all',
    bug: 'only what all policies close is closed',
    file: COMPILE,
    find: 'policies.some(({ closes }) => closes.includes(direction))',
    replace: 'policies.every(({ closes }) => closes.includes(direction))'
  },
  {
    name: 'rules-of-both-directions',
    bug: 'rules of one direction are rules of both',
    file: COMPILE,
    find: '.filter(({ rule }) => rule.direction === direction)',
    replace: ''
  },
  {
    name: 'first-policy-only',
    bug: 'an endpoint has only the first policy that selects it',
    file: COMPILE,
    find: 'met.includes(formatRequirements(select)))',
    replace: 'met.includes(formatRequirements(select))).slice(0, 1)'
  },
  {
    name: 'rulesets-by-name-of-the-first',
    bug: 'endpoints whose first policy is the same have the same rules',
    file: COMPILE,
    find: "selecting.map(contentOf).join('\\n')",
    replace: 'selecting.slice(0, 1).map(contentOf).join()'
  },
  {
    name: 'judged-as-stranger',
    bug: 'the verdicts of an identity are not looked up',
    file: EVALUATE,
    find: "this.#find(question, { of: 'identity', number: identity }) ?? this",
    replace: 'this'
  },
  {
    name: 'peer-is-the-other-end',
    bug: 'at egress, the sender is taken for the peer',
    file: EVALUATE,
    find: "at(from, 'egress', to.address)",
    replace: "at(from, 'egress', from.address)"
  },
  {
    name: 'unknown-protocol-as-tcp',
    bug: 'a protocol that rules do not name is taken for TCP',
    file: EVALUATE,
    find: 'protocol === null ? 0 :',
    replace: 'protocol === null ? 1 :'
  },
  {
    name: 'not-without-label',
    bug: 'KEY!=VALUE holds only for endpoints that have the key',
    file: REQUIREMENT,
    find: '(each.not === true))',
    replace:
      '(each.not === true) && (each.not !== true || Object.hasOwn(labels, each.key) || each.value === undefined))'
  },
  {
    name: 'not-is-ignored',
    bug: 'a requirement that must not hold is one that must',
    file: REQUIREMENT,
    find: ' !== (each.not === true))',
    replace: ')'
  },
  {
    name: 'every-cidr-must-hold',
    bug: 'an address must be in all CIDRs of a rule',
    file: VERDICTS,
    find: 'thoseOf(byCidr, inside)',
    replace: 'thoseOf(byCidr, inside).filter(({ cidrs }) => cidrs.every(text => inside.has(text)))'
  },
  {
    name: 'rule-for-cidrs-is-for-anyone',
    bug: 'a rule that has no selectors is one for anyone',
    file: VERDICTS,
    find: 'isForAnyone: peers.length === 0',
    replace: 'isForAnyone: peers.filter(isLabelPeer).length === 0'
  },
  {
    name: 'identity-before-block',
    bug: 'what a CIDR says counts only where no other rule holds',
    file: EVALUATE,
    find: 'byBlock.rank > byIdentity.rank ?',
    replace: 'byIdentity.rank < 0 ?'
  },
  {
    name: 'block-before-identity',
    bug: 'what a CIDR says always counts',
    file: EVALUATE,
    find: 'byBlock !== undefined && byBlock.rank > byIdentity.rank ?',
    replace: 'byBlock !== undefined ?'
  },
  {
    name: 'blocks-of-one-direction',
    bug: 'the blocks of ingress are looked up for egress',
    file: EVALUATE,
    find: 'BigInt(DIRECTIONS.indexOf(direction))',
    replace: '0n'
  }
]
