// Reads a Content-Security-Policy the way browsers do, as far as fetching is concerned.
// https://www.w3.org/TR/CSP3/

/** @typedef {Map<string, string[]>} Policy The values of each directive, whose name is in lower case */

/** A directive that is missing is replaced by the next. */
const FALLBACKS = /** @type {Record<string, string[]>} */ ({
  'connect-src': ['default-src'],
  'frame-src': ['child-src', 'default-src'],
  'object-src': ['default-src'],
  'script-src': ['default-src'],
  'worker-src': ['child-src', 'script-src', 'default-src'],
})

/**
 * Every policy that a header holds: several headers arrive with commas between them, and each
 * policy has to agree.
 *
 * @param {string | null} header @returns {Policy[]}
 */
export const parsePolicies = (header) =>
  (header ?? '')
    .split(',')
    .map(parsePolicy)
    .filter((policy) => policy.size > 0)

/** @param {string} text @returns {Policy} */
const parsePolicy = (text) => {
  const policy = /** @type {Policy} */ (new Map())
  for (const part of text.split(';')) {
    const [name = '', ...values] = part.trim().split(/\s+/)
    const directive = name.toLowerCase()
    // Of two directives with one name, the first counts.
    if (directive && !policy.has(directive)) policy.set(directive, values)
  }
  return policy
}

/**
 * Policies in `<meta>` elements. What does not count there is left out.
 *
 * @param {string} html @returns {Policy[]}
 */
export const metaPolicies = (html) =>
  [...html.matchAll(/<meta\b(?:[^<>"']|"[^"]*"|'[^']*')*>/gi)]
    .map(([tag]) => tag)
    .map(attributesOf)
    .filter((attributes) => /^content-security-policy$/i.test(attributes.get('http-equiv') ?? ''))
    .flatMap((attributes) => parsePolicies(attributes.get('content') ?? ''))
    .map((policy) => {
      for (const name of ['frame-ancestors', 'sandbox', 'report-uri']) policy.delete(name)
      return policy
    })

/** @param {string} tag @returns {Map<string, string>} */
const attributesOf = (tag) =>
  new Map(
    [...tag.matchAll(/\b([\w-]{1,40})\s{0,20}=\s{0,20}(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))/g)].map(
      ([, name = '', double, single, bare]) => [name.toLowerCase(), double ?? single ?? bare ?? ''],
    ),
  )

/**
 * The directive that counts for a kind of request.
 *
 * @param {Policy} policy @param {string} directive
 * @returns {{ name: string, values: string[] } | undefined} undefined: nothing is forbidden
 */
export const directiveFor = (policy, directive) => {
  const name = [directive, ...(FALLBACKS[directive] ?? [])].find((each) => policy.has(each))
  return name === undefined ? undefined : { name, values: policy.get(name) ?? [] }
}

/**
 * Whether every policy lets a document or worker at `self` fetch `url`.
 *
 * @param {Policy[]} policies @param {string} directive @param {string} url @param {string} self
 */
export const allows = (policies, directive, url, self) =>
  policies.every((policy) => {
    const found = directiveFor(policy, directive)
    return !found || found.values.some((source) => matches(source, new URL(url), new URL(self)))
  })

/** Whether a directive is exactly `'none'`, or empty. @param {string[] | undefined} values */
export const isNone = (values) =>
  values?.every((value) => value.toLowerCase() === "'none'") ?? false

const DEFAULT_PORTS = /** @type {Record<string, string>} */ ({ 'http:': '80', 'https:': '443' })

/** @param {URL} url */
const portOf = (url) => url.port || DEFAULT_PORTS[url.protocol]

/** A scheme stands for its secure sibling too. @param {string} wanted @param {string} protocol */
const schemeMatches = (wanted, protocol) =>
  wanted === protocol || (wanted === 'http:' && protocol === 'https:')

/** @param {string} source @param {URL} url @param {URL} self */
const matches = (source, url, self) => {
  const text = source.toLowerCase()
  if (text === '*') return /^https?:$/.test(url.protocol) || url.protocol === self.protocol
  if (text === "'self'") {
    if (url.origin === self.origin) return true
    return (
      url.hostname === self.hostname && schemeMatches(self.protocol, url.protocol) && isUsual(url)
    )
  }
  if (text.startsWith("'")) return false
  if (/^[a-z][a-z0-9+.-]*:$/.test(text)) return schemeMatches(text, url.protocol)

  const [, scheme, host = '', port, path] =
    /^(?:([a-z][a-z0-9+.-]*:)\/\/)?([^:/]+)(?::(\d+|\*))?(\/.*)?$/i.exec(source) ?? []
  if (!host) return false
  const wanted = scheme?.toLowerCase()
  if (!schemeMatches(wanted ?? self.protocol, url.protocol)) return false
  if (!hostMatches(host.toLowerCase(), url.hostname)) return false
  if (!portMatches(port, wanted, url)) return false
  return pathMatches(path, url.pathname)
}

/** @param {URL} url */
const isUsual = (url) => portOf(url) === DEFAULT_PORTS[url.protocol]

/** @param {string} wanted @param {string} hostname */
const hostMatches = (wanted, hostname) => {
  if (wanted === '*') return true
  return wanted.startsWith('*.') ? hostname.endsWith(wanted.slice(1)) : hostname === wanted
}

/** @param {string | undefined} wanted @param {string | undefined} scheme @param {URL} url */
const portMatches = (wanted, scheme, url) => {
  if (wanted === '*') return true
  if (wanted === undefined) return isUsual(url)
  // http://host:80 stands for https://host as well.
  return wanted === portOf(url) || (wanted === '80' && scheme !== 'https:' && portOf(url) === '443')
}

/** The query is never looked at. @param {string | undefined} wanted @param {string} pathname */
const pathMatches = (wanted, pathname) => {
  if (wanted === undefined || wanted === '/') return true
  const path = wanted.split(/[?#]/, 1)[0] ?? ''
  return path.endsWith('/') ? pathname.startsWith(path) : pathname === path
}
