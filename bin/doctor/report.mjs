// What the doctor has found, and how it is printed.

import { problemsOf } from './ranking.mjs'

/**
 * @typedef {'pass' | 'note' | 'warning' | 'failure'} Level
 *
 * @typedef {object} Finding
 * @property {string} id Stays the same from version to version: `callback.sandbox`
 * @property {Level} level
 * @property {string} found
 * @property {string} why Why it matters; empty where all is well
 * @property {string} fix What to change; empty where nothing has to be
 */

const TITLES = /** @type {Record<string, string>} */ ({
  site: 'Site',
  callback: 'Callback page',
  'auth-pages': 'The other auth pages',
  worker: 'Worker script',
  page: 'Policy of the page',
  server: 'Authorization server',
  client: 'The client at the authorization server',
  api: 'APIs',
})

const MARKS = { pass: 'ok', note: 'note', warning: 'warning', failure: 'FAILURE' }

/** @param {string[]} accepted Ids of failures that are known, and no more than warnings */
export const createReport = (accepted) => {
  const findings = /** @type {Finding[]} */ ([])

  /** @param {Level} level @param {string} id @param {string[]} words found, why, fix */
  const add = (level, id, ...words) => {
    const isKnown = level === 'failure' && accepted.includes(id)
    // They quote what servers have sent, and go to a terminal.
    const [found = '', why = '', fix = ''] = words.map((text) =>
      text.replace(/\p{Cc}+/gu, ' ').trim(),
    )
    findings.push({ id, level: isKnown ? 'warning' : level, found, why, fix })
  }

  return {
    findings,
    /** @param {string} id @param {string} found */
    pass: (id, found) => add('pass', id, found),
    /** @param {string} id @param {string} found @param {string} [why] @param {string} [fix] */
    note: (id, found, why = '', fix = '') => add('note', id, found, why, fix),
    /** @param {string} id @param {string} found @param {string} why @param {string} fix */
    warn: (id, found, why, fix) => add('warning', id, found, why, fix),
    /** @param {string} id @param {string} found @param {string} why @param {string} fix */
    fail: (id, found, why, fix) => add('failure', id, found, why, fix),
    /** The same finding, worse or better. */
    add,
  }
}

/** @typedef {ReturnType<typeof createReport>} Report */

/** @param {Finding[]} findings @param {Level} level */
const count = (findings, level) => findings.filter((finding) => finding.level === level).length

/** @param {number} number @param {string} word */
const plural = (number, word) => `${number} ${word}${number === 1 ? '' : 's'}`

/** @param {string} text @param {string} indent */
const wrap = (text, indent) => {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = `${lines.at(-1)} ${word}`.trim()
    if (line.length + indent.length <= 100 || lines.at(-1) === '') lines[lines.length - 1] = line
    else lines.push(word)
  }
  return lines.join(`\n${indent}`)
}

/** @param {Finding} finding */
const printFinding = ({ id, level, found, why, fix }) => {
  const lines = [`  ${MARKS[level].padEnd(8)} ${wrap(found, ' '.repeat(11))}`]
  if (why) lines.push(`           Why: ${wrap(why, ' '.repeat(16))}`)
  if (fix) lines.push(`           Fix: ${wrap(fix, ' '.repeat(16))}`)
  if (level === 'failure' || level === 'warning') lines[0] += `  [${id}]`
  return lines.join('\n')
}

/** @param {Finding[]} findings */
export const printReport = (findings) => {
  const problems = problemsOf(findings)
  const others = findings.filter((finding) => !problems.includes(finding))
  const groups = [
    ['What to look at, the likeliest cause first', problems],
    ...Object.entries(TITLES).map(([group, title]) => [
      title,
      others.filter(({ id }) => id.startsWith(`${group}.`)),
    ]),
  ].flatMap(([title, own]) =>
    own.length > 0 ? [`${title}\n${own.map(printFinding).join('\n')}`] : [],
  )
  const sums = [
    plural(count(findings, 'failure'), 'failure'),
    plural(count(findings, 'warning'), 'warning'),
    `${count(findings, 'pass')} passed`,
  ]
  return [...groups, `${sums.join(', ')}.`].join('\n\n')
}
