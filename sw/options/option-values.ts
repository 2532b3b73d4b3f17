/** Reads single values of options. All of it protects: a typo must not mean the laxer value. */
import { must } from '../values/must.js'

/** One of two words. */
export const either = <T extends string>(
  name: string,
  value: unknown,
  [first, second]: readonly [T, T],
): T => {
  must(value === first || value === second, name, `must be '${first}' or '${second}'.`)
  return value as T
}

/** A number of seconds in these bounds, in ms. */
export const seconds = (
  name: string,
  value: unknown,
  { least, most }: { least: number; most: number },
): number => {
  const isInside = typeof value === 'number' && value >= least && value <= most
  must(isInside, name, `must be a number of seconds from ${least} to ${most}.`)
  return value * 1000
}

/** The scopes of a space separated string. */
export const scopeList = (value: unknown): string[] => {
  must(typeof value === 'string', 'scope', 'must be a string, its parts space separated.')
  return value.split(' ').filter(Boolean)
}
