import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { VxmeshError } from '#model/errors.ts'
import {
  changesOf,
  ENDPOINT_DEFAULTS,
  ENDPOINT_SETTINGS,
  NETWORK_DEFAULTS,
  NETWORK_SETTINGS,
  parseChanges,
  parseSettings,
  settingsOf
} from '#model/settings.ts'

const NETWORK = { egressRate: 1e6, mtu: 1_400, egress: false, hostAccess: true }

t.test('defaults are valid settings', t => {
  t.strictSame(parseSettings(NETWORK_SETTINGS, NETWORK_DEFAULTS), NETWORK_DEFAULTS)
  t.strictSame(parseSettings(ENDPOINT_SETTINGS, ENDPOINT_DEFAULTS), ENDPOINT_DEFAULTS)
  t.strictSame(NETWORK_DEFAULTS, { egressRate: 0, mtu: 0, egress: true, hostAccess: false })
  t.end()
})

t.test('parsed settings have the order of the table and no other fields', t => {
  const shuffled = { hostAccess: true, stray: 1, mtu: 1_400, egress: false, egressRate: 1e6 }
  t.equal(JSON.stringify(parseSettings(NETWORK_SETTINGS, shuffled)), JSON.stringify(NETWORK))
  t.equal(JSON.stringify(settingsOf(NETWORK_SETTINGS, shuffled)), JSON.stringify(NETWORK))
  t.end()
})

const INVALID: readonly (readonly [field: keyof typeof NETWORK, value: unknown])[] = [
  ['egressRate', undefined],
  ['egressRate', null],
  ['egressRate', '1mbit'],
  ['egressRate', 7_999],
  ['egressRate', 1e13],
  ['egressRate', 1e6 + 0.5],
  ['mtu', 575],
  ['mtu', 65_486],
  ['mtu', -1],
  ['mtu', '1400'],
  ['egress', 1],
  ['egress', 'true'],
  ['egress', undefined],
  ['hostAccess', null]
]
for (const [field, value] of INVALID) {
  t.test(`a setting is refused by its name: ${field} ${String(value)}`, t => {
    t.throws(() => parseSettings(NETWORK_SETTINGS, { ...NETWORK, [field]: value }), { code: 'ERR_INVALID', field })
    t.end()
  })
}

t.test('changes hold the changeable settings that are present, and nothing else', t => {
  t.strictSame(parseChanges(NETWORK_SETTINGS, NETWORK), { egressRate: 1e6 }, 'mtu and flags cannot change')
  t.strictSame(parseChanges(NETWORK_SETTINGS, { egressRate: null }), {})
  t.strictSame(parseChanges(ENDPOINT_SETTINGS, { delayUs: 0, stray: 1 }), { delayUs: 0 })
  t.strictSame(changesOf(ENDPOINT_SETTINGS, { egressRate: 0 }), { egressRate: 0 })
  t.strictSame(changesOf(NETWORK_SETTINGS, NETWORK), { egressRate: 1e6 })
  t.throws(() => parseChanges(ENDPOINT_SETTINGS, { delayUs: -1 }), { code: 'ERR_INVALID', field: 'delayUs' })
  t.end()
})

t.test('a sparse setting is absent unless it is given, and only its own values are', t => {
  t.notOk('egressV6' in NETWORK_DEFAULTS)
  t.strictSame(parseSettings(NETWORK_SETTINGS, { ...NETWORK, egressV6: null }), NETWORK)
  for (const egressV6 of ['nat', 'routed'] as const) {
    t.strictSame(parseSettings(NETWORK_SETTINGS, { ...NETWORK, egressV6 }), { ...NETWORK, egressV6 })
    t.strictSame(settingsOf(NETWORK_SETTINGS, { ...NETWORK, egressV6 }), { ...NETWORK, egressV6 })
    t.strictSame(parseChanges(NETWORK_SETTINGS, { egressV6 }), { egressV6 })
  }
  for (const value of ['', 'NAT', 'none', true, 0, ['nat'], { nat: 1 }])
    t.throws(() => parseSettings(NETWORK_SETTINGS, { ...NETWORK, egressV6: value }), {
      ...{ code: 'ERR_INVALID', field: 'egressV6' }
    })
  t.end()
})

t.test('any value either parses to itself or is refused by a field', t => {
  const value = fc.oneof(fc.anything(), fc.nat(), fc.boolean(), fc.constant(0))
  const row = fc.record({ ingressRate: value, egressRate: value, delayUs: value })
  fc.assert(
    fc.property(row, fields => {
      try {
        assert.deepEqual(parseSettings(ENDPOINT_SETTINGS, fields), { ...fields })
      } catch (err) {
        assert.ok(err instanceof VxmeshError && err.field !== undefined && err.field in fields, String(err))
      }
    })
  )
  t.end()
})
