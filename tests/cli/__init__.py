"""The command ``aipimage``, from outside: arguments in; files, output and exit status out."""
