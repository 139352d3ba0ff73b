import t from 'tap'
import {
  BOTH_FAMILIES,
  LABELS,
  needsBothFamilies,
  needsLabels,
  needsPolicies,
  needsServices,
  RULES,
  rulesNeeded,
  rulesOfVersion,
  POLICIES,
  SERVICES,
  UNGATED_RULES,
  versionOfRules
} from '#model/command.ts'
import { parseNetworkName } from '#model/ids.ts'
import { VERSION } from '#platform/version.ts'
import * as made from '../allocator/fixtures.ts'

for (const [version, rules] of [
  ['0.1.0', UNGATED_RULES],
  ['0.1.99', UNGATED_RULES],
  ['0.2.0', BOTH_FAMILIES],
  ['0.2.7', BOTH_FAMILIES],
  ['0.2.0-rc.1', BOTH_FAMILIES],
  ['0.3.0', LABELS],
  ['0.3.0-rc.1', LABELS],
  ['0.3.9', LABELS],
  ['0.4.0', POLICIES],
  ['0.4.9', POLICIES],
  ['0.10.0', POLICIES],
  ['1.0.0', POLICIES],
  ['1.1.0', POLICIES],
  ['0', UNGATED_RULES],
  ['', UNGATED_RULES],
  ['0.2-rc', UNGATED_RULES],
  ['v0.2.0', UNGATED_RULES],
  ['unknown', UNGATED_RULES]
] as const) {
  t.test(`version "${version}" knows rules ${rules}`, t => {
    t.equal(rulesOfVersion(version), rules)
    t.end()
  })
}

t.test('this version knows the latest rules, and the first version of each is named', t => {
  t.equal(rulesOfVersion(VERSION), RULES)
  t.equal(versionOfRules(BOTH_FAMILIES), '0.2')
  t.equal(versionOfRules(LABELS), '0.3')
  t.equal(versionOfRules(SERVICES), '0.4')
  t.equal(versionOfRules(POLICIES), '0.4')
  for (let rules = UNGATED_RULES + 1; rules <= RULES; rules++)
    t.ok(rulesOfVersion(`${versionOfRules(rules)}.0`) >= rules)
  t.end()
})

t.test('commands need both families exactly when they say something of IPv6', t => {
  const subnet6 = '10.3.0.0/24'
  for (const command of [
    made.create('x', { subnet: 'fd00::/64' }),
    made.create('x', { subnet: subnet6, subnet6: 'fd00::/64' }),
    made.create('x', { gateway: 'fd00::1' }),
    made.create('x', { egressV6: 'nat' }),
    made.addSubnet('x', 'fd00::/64'),
    made.addSubnet('x', subnet6),
    made.leave('x', 'routed'),
    made.attach('x', 'c', { address: 'fd00::5' }),
    made.attach('x', 'c', { address6: 'fd00::5' }),
    made.attach('x', 'c', { address: '10.1.0.5', address6: 'fd00::5' })
  ]) {
    t.ok(needsBothFamilies(command), JSON.stringify(command))
    t.equal(rulesNeeded(command), BOTH_FAMILIES, JSON.stringify(command))
  }
  for (const command of [
    made.create('x'),
    made.create('x', { gateway: '10.1.0.1' }),
    made.update('x', 5),
    made.attach('x', 'c'),
    made.attach('x', 'c', { address: '10.1.0.5', mac: '02:00:00:00:00:01' }),
    made.detach('c'),
    made.register(1),
    made.open('x'),
    { kind: 'network-delete', name: parseNetworkName('x'), force: true } as const
  ]) {
    t.notOk(needsBothFamilies(command), JSON.stringify(command))
    t.equal(rulesNeeded(command), UNGATED_RULES, JSON.stringify(command))
  }
  t.end()
})

t.test('commands need the rules of labels exactly when they say something of labels', t => {
  for (const command of [
    made.attach('x', 'c', { labels: { app: '' } }),
    made.attach('x', 'c', { labels: { app: '' }, address6: 'fd00::5' }),
    made.relabel('c', { app: 'web' }),
    made.relabel('c', { app: null })
  ]) {
    t.ok(needsLabels(command), JSON.stringify(command))
    t.equal(rulesNeeded(command), LABELS, JSON.stringify(command))
  }
  for (const command of [
    made.attach('x', 'c'),
    made.attach('x', 'c', { labels: {} }),
    made.relabel('c', {}),
    made.detach('c')
  ])
    t.notOk(needsLabels(command), JSON.stringify(command))
  t.end()
})

t.test('commands about policies need their rules, and no others do', t => {
  for (const command of [made.police('x', 'p'), made.repolice('x', 'p', {}), made.unpolice('x', 'p')]) {
    t.ok(needsPolicies(command), JSON.stringify(command))
    t.equal(rulesNeeded(command), POLICIES, JSON.stringify(command))
  }
  for (const command of [made.create('x'), made.serve('x', 's'), made.unserve('x', 's'), made.relabel('c', { a: '' })])
    t.notOk(needsPolicies(command), JSON.stringify(command))
  t.end()
})

t.test('commands about services need their rules, and no others do', t => {
  for (const command of [made.serve('x', 's'), made.reserve('x', 's', {}), made.unserve('x', 's')]) {
    t.ok(needsServices(command), JSON.stringify(command))
    t.equal(rulesNeeded(command), SERVICES, JSON.stringify(command))
  }
  for (const command of [made.create('x'), made.remove('x', true), made.attach('x', 'c'), made.relabel('c', { a: '' })])
    t.notOk(needsServices(command), JSON.stringify(command))
  t.end()
})
