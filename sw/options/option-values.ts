import { must } from '../values/must.js'

/**
 * One of two words. A misspelt one must not pass for the other, which may be the laxer one.
 *
 * @throws TokenError `invalid_configuration`, like the others here
 */
export const either = <const T extends string>(
  name: string,
  value: unknown,
  [a, b]: readonly [T, T],
): T => {
  must(value === a || value === b, name, `must be '${a}' or '${b}'.`)
  return value as T
}

/** A number of seconds, as ms. What is not a number would make every comparison false. */
export const seconds = (name: string, value: unknown, [least, most]: [number, number]): number => {
  const isInside = typeof value === 'number' && value >= least && value <= most
  must(isInside, name, `must be a number of seconds from ${least} to ${most}.`)
  return value * 1000
}

/** The scopes in a space-separated string. */
export const scopesIn = (name: string, value: unknown): string[] => {
  must(typeof value === 'string', name, 'must be a string of scopes, separated by spaces.')
  return value.split(' ').filter(Boolean)
}

/** Is this a list of strings in this form? */
export const isListOf = (value: unknown, form: RegExp): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string' && form.test(item))
