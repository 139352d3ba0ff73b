// Command-line options for the settings of networks and endpoints, and their translation into request bodies.

import { Option, type Command } from 'commander'
import { VxmeshError } from '#model/errors.ts'
import { MTU_MAX, MTU_MIN, parseDelay, parseRate } from '#model/quantity.ts'
import { changeableOf, parseEgressV6, type Setting, type SettingKind, type Settings } from '#model/settings.ts'
import { by, checked, wholeNumber } from './arguments.ts'

type Options = Readonly<Record<string, unknown>>

/** Parsers by kind; a flag takes no value. */
const PARSERS: Readonly<Partial<Record<SettingKind, (flag: string) => (text: string) => unknown>>> = {
  rate: flag => checked(flag, parseRate),
  delay: flag => checked(flag, parseDelay),
  mtu: flag => by(flag, wholeNumber(MTU_MIN, MTU_MAX)),
  egressV6: flag => checked(flag, parseEgressV6)
}

/** Adds an option for each setting. */
export function addSettingOptions(command: Command, table: Settings): Command {
  for (const setting of Object.values(table)) command.addOption(optionOf(setting))
  return command
}

/** Adds an option for each setting that can be changed. */
export function addChangeOptions(command: Command, table: Settings): Command {
  return addSettingOptions(command, Object.fromEntries(changeableOf(table)))
}

/** The given settings under their names in the API; undefined where one is absent. */
export function settingsIn(table: Settings, options: Options): Options {
  const values = Object.entries(table).map(([name, setting]) => [name, options[optionOf(setting).attributeName()]])
  return Object.fromEntries(values) as Options
}

/**
 * The given changes under their names in the API. @throws ERR_USAGE if there are none
 * @param others flags of changes that are no settings, by name
 */
export function changesIn(table: Settings, options: Options, others: Readonly<Record<string, string>> = {}): Options {
  const changeable = changeableOf(table)
  const more = Object.keys(others).map(name => [name, options[name]] as const)
  const changes = { ...settingsIn(Object.fromEntries(changeable), options), ...Object.fromEntries(more) }
  if (Object.values(changes).some(value => value !== undefined)) return changes
  const flags = [...changeable.map(([, setting]) => optionOf(setting).long ?? ''), ...Object.values(others)]
  throw new VxmeshError('ERR_USAGE', `give at least one of ${flags.join(', ')}`)
}

function optionOf({ option: flags, help, kind }: Setting): Option {
  const option = new Option(flags, help)
  const parse = PARSERS[kind]
  return parse === undefined ? option : option.argParser(parse(option.long ?? flags))
}
