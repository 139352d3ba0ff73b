import { Command } from 'commander'
import t from 'tap'
import { addChangeOptions, addSettingOptions, changesIn, settingsIn } from '#cli/setting-options.ts'
import { ENDPOINT_SETTINGS, NETWORK_SETTINGS } from '#model/settings.ts'

function parsed(command: Command, line: string): Record<string, unknown> {
  return command
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .parse(
      line.split(' ').filter(word => word !== ''),
      { from: 'user' }
    )
    .opts()
}

const network = (line: string): unknown =>
  settingsIn(NETWORK_SETTINGS, parsed(addSettingOptions(new Command(), NETWORK_SETTINGS), line))
const endpointChange = (line: string): unknown =>
  changesIn(ENDPOINT_SETTINGS, parsed(addChangeOptions(new Command(), ENDPOINT_SETTINGS), line))

t.test('each option sets the field of its setting', t => {
  t.strictSame(network('--egress-rate 1gbit --mtu 1400 --no-egress --host-access --egress-v6 routed'), {
    egressRate: '1gbit',
    mtu: 1_400,
    egress: false,
    hostAccess: true,
    egressV6: 'routed'
  })
  t.strictSame(endpointChange('--delay 10ms --ingress-rate none'), {
    ingressRate: 'none',
    egressRate: undefined,
    delayUs: '10ms'
  })
  t.end()
})

t.test('without options the agent chooses; only --no-egress has a default of its own', t => {
  t.strictSame(network(''), {
    egressRate: undefined,
    mtu: undefined,
    egress: true,
    hostAccess: undefined,
    egressV6: undefined
  })
  t.end()
})

t.test('a malformed value is refused by the name of its flag', t => {
  for (const [line, field] of [
    ['--egress-rate fast', '--egress-rate'],
    ['--mtu 575', '--mtu'],
    ['--mtu 1400.5', '--mtu'],
    ['--egress-v6 none', '--egress-v6']
  ] as const) {
    t.throws(() => network(line), { code: 'ERR_USAGE', message: new RegExp(`^${field}: `) }, line)
  }
  t.throws(() => endpointChange('--delay 61s'), { code: 'ERR_USAGE', field: '--delay' })
  t.end()
})

t.test('an update needs a change, and settings that cannot change have no option', t => {
  const message = 'give at least one of --ingress-rate, --egress-rate, --delay'
  t.throws(() => endpointChange(''), { code: 'ERR_USAGE', message })
  const update = addChangeOptions(new Command(), NETWORK_SETTINGS)
  t.strictSame(
    update.options.map(option => option.long),
    ['--egress-rate', '--egress-v6']
  )
  t.throws(() => parsed(update, '--mtu 1400'), { code: 'commander.unknownOption' })
  t.end()
})
