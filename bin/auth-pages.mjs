// The five pages that the network serves, as all commands know them.

/** What is wrong with the command; shown without a stack. */
export class UsageError extends Error {}

export const PAGES = ['login', 'silent', 'callback', 'done', 'logout']
export const DEFAULT_AUTH_PATH = 'tokenward/'

/** @param {string} given A folder below the site's @returns {string} With one slash at its end */
export const normalAuthPath = (given) => {
  const segments = given.split('/').filter((segment) => segment !== '')
  const plain = segments.every((segment) => /^[\w.~-]+$/.test(segment) && !/^\.+$/.test(segment))
  if (given.startsWith('/') || segments.length === 0 || !plain) {
    throw new UsageError(
      `--auth-path ${given}: needs a folder below the site's, such as ${DEFAULT_AUTH_PATH} or auth/oidc/.`,
    )
  }
  return `${segments.join('/')}/`
}

/** Anything in a page that is not inert. @param {string} text @returns {string[]} */
export const liveParts = (text) =>
  /** @type {[RegExp, string][]} */ ([
    [/<script/i, 'a script'],
    [/<[^<>]*\son\w+\s*=/i, 'an inline handler'],
    [/javascript:/i, 'a javascript: URL'],
    [
      /<(?:link|img|picture|audio|video|source|svg|iframe|frame|object|embed|form|base)\b/i,
      'something it loads or sends',
    ],
    [/<meta[^<>]+refresh/i, 'a redirect'],
    [/@import|url\(/i, 'a style that loads something'],
  ])
    .filter(([pattern]) => pattern.test(text))
    .map(([, what]) => what)
