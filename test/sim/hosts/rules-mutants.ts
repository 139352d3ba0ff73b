// Mutants of the rules of the cluster (docs/adr/0054) that a simulated upgrade must detect.

import type { SourceMutant } from '../../mutant-loader.ts'

export const RULES_MUTANTS: readonly SourceMutant[] = [
  {
    name: 'raised-by-the-newest-host',
    bug: 'the rules are raised as soon as one host knows new ones',
    file: 'allocator/cluster-rules.ts',
    find: 'Math.min(...known)',
    replace: 'Math.max(...known)'
  },
  {
    name: 'rules-never-raised',
    bug: 'the hosts are not looked at when one registers',
    file: 'allocator/apply-host.ts',
    find: 'tables.putHost(host)\n  raiseRules(tables)',
    replace: 'tables.putHost(host)'
  },
  {
    name: 'old-host-registers-after-the-raise',
    bug: 'a host that does not know the rules of the cluster is registered',
    file: 'allocator/cluster-rules.ts',
    find: 'if (rulesOfVersion(version) >= rules) return null',
    replace: 'if (rulesOfVersion(version) >= 0 * rules) return null'
  },
  {
    name: 'proposer-names-its-own-rules',
    bug: 'a request names the latest rules that its proposer knows, and not those of the cluster',
    file: 'src/replication/consensus/proposer.ts',
    find: 'rules: rules(), by:',
    replace: 'rules: Math.max(8, rules()), by:'
  },
  {
    name: 'leader-names-its-own-rules',
    bug: 'a client’s request is bound to the latest rules that the leader knows, and not to those of the cluster',
    file: 'src/replication/consensus/propose-rpc.ts',
    find: 'by: from, rules }',
    replace: 'by: from, rules: Math.max(8, rules) }'
  },
  {
    name: 'ipv6-before-the-rules',
    bug: 'a request for IPv6 enters the log before all hosts can read it',
    file: 'allocator/admission.ts',
    find: 'if (state.rules >= needed) return null',
    replace: 'if (needed === 5 || state.rules >= needed) return null'
  },
  {
    name: 'labels-before-the-rules',
    bug: 'a request with labels enters the log before all hosts can read it',
    file: 'allocator/admission.ts',
    find: 'if (state.rules >= needed) return null',
    replace: 'if (needed === 6 || state.rules >= needed) return null'
  },
  {
    name: 'services-before-the-rules',
    bug: 'a request about a service enters the log before all hosts can read it',
    file: 'allocator/admission.ts',
    find: 'if (state.rules >= needed) return null',
    replace: 'if (needed === 7 || state.rules >= needed) return null'
  },
  {
    name: 'policies-before-the-rules',
    bug: 'a request about a policy enters the log before all hosts can read it',
    file: 'allocator/admission.ts',
    find: 'if (state.rules >= needed) return null',
    replace: 'if (needed === 8 || state.rules >= needed) return null'
  },
  {
    name: 'policies-lost-in-a-snapshot',
    bug: 'a restored state has no policies',
    file: 'allocator/state-cursor.ts',
    find: 'this.#policies = [...state.policies()]',
    replace: 'this.#policies = []'
  },
  {
    name: 'services-lost-in-a-snapshot',
    bug: 'a restored state has no services',
    file: 'allocator/state-cursor.ts',
    find: 'this.#services = [...state.services()]',
    replace: 'this.#services = []'
  },
  {
    name: 'service-address-not-in-the-pool',
    bug: 'a container may get the address of a service that was restored',
    file: 'allocator/state-builder.ts',
    find: "this.#tables.addService(parseServiceRow(row), 'explicit')",
    replace: "this.#tables.addService({ ...parseServiceRow(row), addresses: [] }, 'explicit')"
  },
  {
    name: 'labels-by-the-rules-of-ipv6',
    bug: 'labels are taken for something that every host knows which knows IPv6',
    file: 'src/model/command.ts',
    find: 'if (needsLabels(command)) return LABELS',
    replace: 'if (needsLabels(command)) return BOTH_FAMILIES'
  },
  {
    name: 'raised-only-once',
    bug: 'rules that were raised are never raised again',
    file: 'allocator/cluster-rules.ts',
    find: 'if (tables.rules === RULES) return\n',
    replace: 'if (tables.rules > UNGATED_RULES) return\n'
  },
  {
    name: 'labels-lost-in-a-snapshot',
    bug: 'a restored endpoint has no labels',
    file: 'allocator/plain-rows.ts',
    find: 'if (labels !== undefined) return [...row, address6 ?? null, labels]',
    replace: ''
  },
  {
    name: 'new-form-before-the-rules',
    bug: 'snapshots have the new form before all hosts can read it',
    file: 'allocator/state-cursor.ts',
    find: 'rules === UNGATED_RULES ? { format: UNGATED_FORMAT }',
    replace: 'rules < UNGATED_RULES ? { format: UNGATED_FORMAT }'
  },
  {
    name: 'old-form-for-ever',
    bug: 'a snapshot of a cluster whose rules were raised does not say so',
    file: 'allocator/state-cursor.ts',
    find: 'rules === UNGATED_RULES ? { format: UNGATED_FORMAT }',
    replace: 'rules > 0 ? { format: UNGATED_FORMAT }'
  },
  {
    name: 'second-address-lost-in-a-snapshot',
    bug: 'a restored endpoint has the mirror instead of the second address that it asked for',
    file: 'allocator/plain-rows.ts',
    find: 'return address6 === undefined ? row : [...row, address6]',
    replace: 'return address6 === undefined ? row : row'
  },
  {
    name: 'second-subnet-lost-in-a-snapshot',
    bug: 'a restored network has no second subnet',
    file: 'allocator/plain-rows.ts',
    find: 'const second = subnet6 === undefined ? {} : { subnet6: range(subnet6) }',
    replace: 'const second = { subnet6: undefined }; void subnet6'
  },
  {
    name: 'endpoints-beyond-the-pool-lost-in-a-snapshot',
    bug: 'a snapshot has no endpoint whose address is in no pool',
    file: 'allocator/state-cursor.ts',
    find: 'yield* this.#beyond(table)',
    replace: ''
  }
]
